// libwebrtc in Node: @roamhq/wrtc.

import wrtc from '@roamhq/wrtc';
import { Client } from './client.js';
import { serve, version } from './stdio.js';
import { connect, media } from './w3c.js';

const WIDTH = 160;
const HEIGHT = 120;

async function open(url, events) {
  const peer = new wrtc.RTCPeerConnection();
  const video = new wrtc.nonstandard.RTCVideoSource();
  const audio = new wrtc.nonstandard.RTCAudioSource();
  const tracks = [video.createTrack(), audio.createTrack()];
  tracks.forEach((track) => peer.addTrack(track, new wrtc.MediaStream(tracks)));
  const connection = await connect(peer, url, events);
  const timers = [setInterval(picture(video), 40), setInterval(sound(audio), 10)];
  return {
    ...connection,
    media: () => media(peer),
    async close() {
      timers.forEach(clearInterval);
      tracks.forEach((track) => track.stop());
      await connection.close();
    },
  };
}

/** Grey that gets lighter and dark again, in I420. */
function picture(source) {
  const data = new Uint8ClampedArray(WIDTH * HEIGHT * 1.5).fill(128);
  let shade = 0;
  return () => {
    shade = (shade + 3) % 256;
    data.fill(shade, 0, WIDTH * HEIGHT);
    source.onFrame({ width: WIDTH, height: HEIGHT, data });
  };
}

/** 10 ms of a tone of 400 Hz. */
function sound(source) {
  const samples = Int16Array.from({ length: 480 }, (_, at) => 8000 * Math.sin((at * Math.PI) / 60));
  return () => source.onData({ samples, sampleRate: 48000, bitsPerSample: 16, channelCount: 1, numberOfFrames: 480 });
}

const versions = { client: `@roamhq/wrtc ${version('@roamhq/wrtc')}`, on: `Node ${process.version}` };
await serve(new Client(versions, open));
