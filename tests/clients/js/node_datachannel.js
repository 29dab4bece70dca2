// libdatachannel, whose ICE is libjuice: node-datachannel.

import rtc from 'node-datachannel';
import { Client } from './client.js';
import { AUDIO, Stream, VIDEO } from './rtp.js';
import { serve, version } from './stdio.js';
import { post } from './whip.js';

async function open(url, events) {
  const peer = new rtc.PeerConnection('client', { iceServers: [], disableAutoNegotiation: true });
  peer.onIceStateChange(events.ice);
  const media = { audio: audio(peer), video: video(peer) };
  const channel = peer.createDataChannel('echo');
  channel.onMessage(events.message);
  channel.onClosed(events.closed);
  const opened = new Promise((resolve) => channel.onOpen(resolve));
  const offer = await description(peer);
  const session = await post(url, offer);
  peer.setRemoteDescription(session.answer, 'answer');
  await opened;
  const kinds = Object.values(media);
  kinds.forEach(({ track, stream }) => stream.start((packet) => track.sendMessageBinary(packet)));
  return {
    send: (data) => (typeof data === 'string' ? channel.sendMessage(data) : channel.sendMessageBinary(data)),
    pair: () => pair(peer),
    media: () => ({ audio: media.audio.stream.come, video: media.video.stream.come }),
    async close() {
      kinds.forEach(({ stream }) => stream.stop());
      channel.onClosed(() => {});
      await session.end();
      peer.close();
      rtc.cleanup();
    },
  };
}

function audio(peer) {
  const audio = new rtc.Audio('audio', 'SendRecv');
  audio.addOpusCodec(AUDIO.payloadType);
  return attach(peer, audio, AUDIO);
}

function video(peer) {
  const video = new rtc.Video('video', 'SendRecv');
  video.addVP8Codec(VIDEO.payloadType);
  return attach(peer, video, VIDEO);
}

function attach(peer, media, parameters) {
  media.addSSRC(parameters.ssrc, 'client', 'client', media.mid());
  const stream = new Stream(parameters);
  const track = peer.addTrack(media);
  track.onMessage((packet) => stream.received(packet));
  return { track, stream };
}

/** The offer, with all candidates in it. */
async function description(peer) {
  const complete = new Promise((resolve) => {
    peer.onGatheringStateChange((state) => state === 'complete' && resolve());
  });
  peer.setLocalDescription();
  await complete;
  return peer.localDescription().sdp;
}

function pair(peer) {
  const { local, remote } = peer.getSelectedCandidatePair();
  const end = ({ type, address, port }) => ({ type, address, port });
  return { local: end(local), remote: end(remote) };
}

const versions = {
  client: `node-datachannel ${version('node-datachannel')}, libdatachannel ${rtc.getLibraryVersion()}`,
  on: `Node ${process.version}`,
};
await serve(new Client(versions, open));
