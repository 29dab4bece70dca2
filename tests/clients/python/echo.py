"""What goes out on a data channel that echoes, and whether it comes back unharmed and in order."""

import asyncio
import math
import time
from collections import deque

# How many messages of a run may be on their way at once.
WINDOW = 16

# How often a message goes out all by itself, seconds.
HEARTBEAT = 0.02


def message(number: int) -> str | bytes:
    """Message `number` of a run: text and binary by turns, of 1 byte to 16 KiB.

    After one of 0 bytes webrtc-rs 0.17 takes the channel for closed.
    """
    length = 1 + number * 7919 % (16384 >> number % 7 * 2)
    if number % 2 == 0:
        return bytes((at * 31 + number * 17) & 255 for at in range(length))
    # Ten bytes of UTF-8, with a character of each length.
    return "x" * (length % 10) + "aß€😀" * (length // 10) + ("x" if length < 10 else "")


class Echo:
    """Sends messages and compares what comes back."""

    def __init__(self, send) -> None:
        self._send = send
        self._awaited: deque[tuple[str | bytes, float]] = deque()
        self._changed = asyncio.Event()
        self._failure: str | None = None
        self._count = 0
        self._slowest = 0.0
        self._heart: asyncio.Task | None = None

    def start(self) -> None:
        """From now on a message goes out every few milliseconds, until the end."""
        self._heart = asyncio.create_task(self._beat())

    async def messages(self, count: int) -> dict:
        """Sends this many messages, and returns when all of them have come back."""
        for number in range(count):
            self._out(message(number))
            await self._until(lambda: len(self._awaited) < WINDOW)
        last = self._awaited[-1] if self._awaited else None
        await self._until(lambda: last not in self._awaited)
        return {"messages": count}

    def status(self) -> dict:
        """How many have come back, and the longest that one of them took, or has been taking."""
        self._check()
        oldest = time.monotonic() - self._awaited[0][1] if self._awaited else 0
        return {"echoed": self._count, "slowest_ms": math.ceil(max(self._slowest, oldest) * 1000)}

    async def stop(self) -> None:
        """Ends, once everything has come back."""
        self._heart.cancel()
        await self._until(lambda: not self._awaited)

    def received(self, data: str | bytes) -> None:
        """To be called with each message that arrives."""
        if not self._awaited:
            return self.fail("a message that was never sent")
        sent, at = self._awaited.popleft()
        if sent != data:
            return self.fail(f"{describe(sent)} came back as {describe(data)}")
        self._count += 1
        self._slowest = max(self._slowest, time.monotonic() - at)
        self._changed.set()

    def fail(self, reason: str) -> None:
        """To be called when the channel is lost."""
        self._failure = self._failure or reason
        self._changed.set()

    async def _beat(self) -> None:
        while self._failure is None:
            self._out(f"heartbeat {self._count}")
            await asyncio.sleep(HEARTBEAT)

    def _out(self, data: str | bytes) -> None:
        self._awaited.append((data, time.monotonic()))
        try:
            self._send(data)
        except Exception as error:
            self.fail(f"cannot send: {error!r}")

    async def _until(self, condition) -> None:
        self._check()
        while not condition():
            self._changed.clear()
            await self._changed.wait()
            self._check()

    def _check(self) -> None:
        if self._failure:
            raise RuntimeError(self._failure)


def describe(data: str | bytes) -> str:
    return f"{type(data).__name__} of {len(data)}"
