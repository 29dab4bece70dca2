// werift: ICE, DTLS, SCTP and SRTP in TypeScript.

import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters } from 'werift';
import { Client } from './client.js';
import { AUDIO, Stream, VIDEO } from './rtp.js';
import { serve, version } from './stdio.js';
import { connect } from './w3c.js';

const OPUS = { mimeType: 'audio/opus', clockRate: 48000, channels: 2, payloadType: AUDIO.payloadType };
const VP8 = { mimeType: 'video/VP8', clockRate: 90000, payloadType: VIDEO.payloadType };
const CODECS = { audio: [new RTCRtpCodecParameters(OPUS)], video: [new RTCRtpCodecParameters(VP8)] };

async function open(url, events) {
  const peer = new RTCPeerConnection({ codecs: CODECS, iceServers: [] });
  const streams = { audio: new Stream(AUDIO), video: new Stream(VIDEO) };
  const tracks = Object.keys(streams).map((kind) => {
    const track = new MediaStreamTrack({ kind });
    peer.addTransceiver(track, { direction: 'sendrecv' });
    return track;
  });
  peer.onTrack.subscribe((track) => {
    track.onReceiveRtp.subscribe((packet) => streams[track.kind].received(packet.serialize()));
  });
  const connection = await connect(peer, url, events);
  tracks.forEach((track) => streams[track.kind].start((packet) => track.writeRtp(packet)));
  return {
    ...connection,
    media: () => ({ audio: streams.audio.come, video: streams.video.come }),
    async close() {
      Object.values(streams).forEach((stream) => stream.stop());
      await connection.close();
    },
  };
}

const versions = { client: `werift ${version('werift')}`, on: `Node ${process.version}` };
await serve(new Client(versions, open));
