// Clients whose peer connections have the API of the W3C.

import { post } from './whip.js';

/** Connects a peer connection that has its tracks. What it returns wants a `media()` to be complete. */
export async function connect(peer, url, events) {
  peer.oniceconnectionstatechange = () => events.ice(peer.iceConnectionState);
  const channel = peer.createDataChannel('echo');
  channel.binaryType = 'arraybuffer';
  channel.onmessage = (event) => events.message(event.data);
  channel.onclose = () => events.closed();
  const opened = new Promise((resolve) => (channel.onopen = resolve));
  await peer.setLocalDescription(await peer.createOffer());
  await gathered(peer);
  const session = await post(url, peer.localDescription.sdp);
  await peer.setRemoteDescription({ type: 'answer', sdp: session.answer });
  await opened;
  return {
    hides: hides(peer.localDescription.sdp),
    send: (data) => channel.send(data),
    pair: () => pair(peer),
    async close() {
      channel.onclose = null;
      await session.end();
      peer.close();
    },
  };
}

/** What has come back and was understood: packets of audio, decoded frames of video. */
export async function media(peer) {
  const come = { audio: 0, video: 0 };
  for (const report of (await peer.getStats()).values()) {
    if (report.type === 'inbound-rtp') {
      come[report.kind] += (report.kind === 'video' ? report.framesDecoded : report.packetsReceived) ?? 0;
    }
  }
  return come;
}

/** Whether names stand in the offer for addresses, as a browser wants it with strangers. */
function hides(offer) {
  return /^a=candidate:.*\.local /m.test(offer);
}

function gathered(peer) {
  return new Promise((resolve) => {
    peer.onicegatheringstatechange = () => peer.iceGatheringState === 'complete' && resolve();
    peer.onicegatheringstatechange();
  });
}

async function pair(peer) {
  const stats = await peer.getStats();
  const reports = [...stats.values()];
  const selected =
    stats.get(reports.find((report) => report.selectedCandidatePairId)?.selectedCandidatePairId) ??
    reports.find((report) => report.type === 'candidate-pair' && report.nominated);
  const end = (id) => {
    const { candidateType, address, port } = stats.get(id);
    return { type: candidateType, address, port };
  };
  return { local: end(selected.localCandidateId), remote: end(selected.remoteCandidateId) };
}
