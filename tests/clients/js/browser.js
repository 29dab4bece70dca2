// A browser. Without asking, a page may use a canvas and an oscillator; with `?media=camera` it asks.

import { Client } from './client.js';
import { connect, media } from './w3c.js';

async function open(url, events) {
  const asks = new URLSearchParams(location.search).get('media') === 'camera';
  const stream = asks ? await navigator.mediaDevices.getUserMedia({ audio: true, video: true }) : await drawn();
  const peer = new RTCPeerConnection();
  peer.ontrack = ({ track }) => play(track);
  stream.getTracks().forEach((track) => peer.addTrack(track, stream));
  const connection = await connect(peer, url, events);
  return { ...connection, media: () => media(peer) };
}

async function drawn() {
  const canvas = document.querySelector('canvas');
  const pen = canvas.getContext('2d');
  setInterval(() => {
    pen.fillStyle = `hsl(${(performance.now() / 10) % 360} 80% 50%)`;
    pen.fillRect(0, 0, canvas.width, canvas.height);
  }, 40);
  const audio = new AudioContext();
  const tone = audio.createOscillator();
  const speaker = audio.createMediaStreamDestination();
  tone.connect(speaker);
  tone.start();
  return new MediaStream([...canvas.captureStream().getTracks(), ...speaker.stream.getTracks()]);
}

function play(track) {
  const player = document.querySelector(track.kind);
  player.srcObject = new MediaStream([track]);
}

window.client = new Client({ client: navigator.userAgent }, open);
