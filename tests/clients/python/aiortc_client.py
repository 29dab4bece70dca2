"""aiortc, whose ICE is aioice. Commands come on stdin, answers go to stdout as JSON, line by line."""

import asyncio
import json
import platform
import sys
import traceback
import urllib.request
from urllib.parse import urljoin

import aioice
import aiortc
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from echo import Echo


class Picture(aiortc.VideoStreamTrack):
    """Grey that gets lighter and dark again."""

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = VideoFrame(160, 120, "gray8")
        frame.planes[0].update(bytes([pts // 1000 % 256]) * frame.planes[0].buffer_size)
        frame = frame.reformat(format="yuv420p")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Client:
    """Does what it is told in lines of text, and answers each with an object."""

    def __init__(self) -> None:
        self._peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        self._channel = self._peer.createDataChannel("echo")
        self._echo = Echo(self._channel.send)
        self._states: list[str] = []
        self._come = {"audio": 0, "video": 0}
        self._players: set[asyncio.Task] = set()
        self._session = ""

    async def command(self, line: str) -> dict:
        """Never raises: what went wrong is the field `error` of the answer."""
        name, _, argument = line.partition(" ")
        try:
            match name:
                case "versions":
                    return versions()
                case "connect":
                    return await self._connect(argument)
                case "messages":
                    return await self._echo.messages(int(argument))
                case "status":
                    return self._status()
                case "close":
                    return await self._close()
            return {"error": f"unknown command: {line}"}
        except Exception:
            return {"error": f"{line}: {traceback.format_exc()}"}

    async def _connect(self, url: str) -> dict:
        self._peer.addTrack(Picture())
        self._peer.addTrack(aiortc.AudioStreamTrack())
        self._peer.on("track", self._play)
        self._peer.on("iceconnectionstatechange", lambda: self._states.append(self._peer.iceConnectionState))
        opened = asyncio.Event()
        self._channel.on("open", opened.set)
        self._channel.on("close", lambda: self._echo.fail("the channel is closed"))
        self._channel.on("message", self._echo.received)
        # Gathers all candidates before it returns.
        await self._peer.setLocalDescription(await self._peer.createOffer())
        answer = await asyncio.to_thread(self._post, url, self._peer.localDescription.sdp)
        await self._peer.setRemoteDescription(aiortc.RTCSessionDescription(answer, "answer"))
        await opened.wait()
        self._echo.start()
        return self._status()

    def _post(self, url: str, offer: str) -> str:
        request = urllib.request.Request(url, offer.encode(), {"Content-Type": "application/sdp"})
        with urllib.request.urlopen(request) as response:
            if response.status != 201:
                raise RuntimeError(f"POST {url}: {response.status}")
            self._session = urljoin(url, response.headers["Location"])
            return response.read().decode()

    def _play(self, track: aiortc.MediaStreamTrack) -> None:
        async def play() -> None:
            try:
                while True:
                    await track.recv()
                    self._come[track.kind] += 1
            except MediaStreamError:
                pass  # The end of the track.

        self._players.add(asyncio.create_task(play()))

    def _status(self) -> dict:
        return {**self._echo.status(), "ice": self._states, "pair": self._pair(), "media": self._come}

    def _pair(self) -> dict:
        # No public API tells which pair was selected.
        pair = self._peer.sctp.transport.transport._connection._nominated[1]
        return {"local": end(pair.local_candidate), "remote": end(pair.remote_candidate)}

    async def _close(self) -> dict:
        await self._echo.stop()
        request = urllib.request.Request(self._session, method="DELETE")
        with await asyncio.to_thread(urllib.request.urlopen, request):
            pass
        await self._peer.close()
        await asyncio.gather(*self._players)
        return {"closed": True}


def versions() -> dict:
    client = f"aiortc {aiortc.__version__}, aioice {aioice.__version__}"
    return {"client": client, "on": f"Python {platform.python_version()}"}


def end(candidate: aioice.Candidate) -> dict:
    return {"type": candidate.type, "address": candidate.host, "port": candidate.port}


async def main() -> None:
    client = Client()
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        print(json.dumps(await client.command(line)), flush=True)
        if line == "close":
            break


asyncio.run(main())
