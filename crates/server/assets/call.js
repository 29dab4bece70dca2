// A test call: a peer connection by WHIP (RFC 9725), with a video track and a data channel whose messages come back.

/** How long a first connection may take; where UDP is let through it takes less than a second. */
const PATIENCE = 15_000;

/** How long an interruption may last before the call counts as lost. */
const INTERRUPTION = 12_000;

const ECHO_EVERY = 100;
const ECHO_LOST_AFTER = 2_000;
const ECHO_WINDOW = 300;

/** The server does not want the call. */
export class Refused extends Error {
  constructor(status, detail, retryAfter) {
    super(detail || `status ${status}`);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** No packet has come through. */
export class Blocked extends Error {}

export class Call {
  #connection = new RTCPeerConnection();
  #echo = new Echo();
  #location = null;
  #tell;
  #lost;
  #over = false;

  /** `tell(name)` is called with "interrupted", "connected" and "lost" once it was connected. */
  constructor(tell) {
    this.#tell = tell;
    const channel = this.#connection.createDataChannel("echo", { ordered: false, maxRetransmits: 0 });
    this.#echo.on(channel);
  }

  /** What the server calls it. */
  get id() {
    return this.#location?.pathname.split("/").pop() ?? null;
  }

  /** What this browser has measured itself: `{rtt, sent, lost}`, or null. */
  get measured() {
    return this.#echo.result();
  }

  /** Connects, or throws why it could not. `onback` gets the stream that comes back. */
  async connect(stream, onback) {
    const connection = this.#connection;
    connection.ontrack = ({ track }) => onback(new MediaStream([track]));
    const [track] = stream?.getVideoTracks() ?? [];
    if (track) connection.addTransceiver(track, { direction: "sendrecv", streams: [stream] });

    await connection.setLocalDescription();
    await gathered(connection);
    const response = await fetch("/whip", {
      method: "POST",
      headers: { "content-type": "application/sdp" },
      body: connection.localDescription.sdp,
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (response.status !== 201) throw await refusal(response);
    this.#location = new URL(response.headers.get("location"), response.url);
    if (this.#over) return this.end();
    await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
    await this.#connected();
    connection.onconnectionstatechange = () => this.#changed();
    this.#changed();
  }

  #connected() {
    const connection = this.#connection;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Blocked()), PATIENCE);
      connection.onconnectionstatechange = () => {
        if (connection.connectionState === "connected") resolve();
        else if (["failed", "closed"].includes(connection.connectionState)) reject(new Blocked());
        else return;
        clearTimeout(timer);
      };
      connection.onconnectionstatechange();
    });
  }

  #changed() {
    const state = this.#connection.connectionState;
    clearTimeout(this.#lost);
    if (state === "connected") this.#tell("connected");
    else if (state === "disconnected") {
      this.#tell("interrupted");
      this.#lost = setTimeout(() => this.#tell("lost"), INTERRUPTION);
    } else if (state === "failed" || state === "closed") this.#tell("lost");
  }

  /** Ends it on both sides. It can be called at any time, and again. */
  end() {
    this.#over = true;
    clearTimeout(this.#lost);
    this.#connection.onconnectionstatechange = null;
    this.#echo.stop();
    this.#connection.close();
    const location = this.#location;
    this.#location = null;
    // Also while the page goes away. If it does not arrive, the server notices by itself.
    if (location) fetch(location, { method: "DELETE", keepalive: true }).catch(() => {});
  }
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  return new Refused(response.status, problem.detail, Number(response.headers.get("retry-after")) || null);
}

/** The answer holds all candidates of the server, and the server learns ours from our checks. */
function gathered(connection) {
  return new Promise((resolve) => {
    const look = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", look);
    setTimeout(resolve, 1_000);
    look();
  });
}

/** Numbered messages that go out all the time, and what became of the newest of them. */
class Echo {
  #waiting = new Map();
  #results = [];
  #next = 0;
  #timer;

  on(channel) {
    channel.onopen = () => {
      this.#timer = setInterval(() => this.#send(channel), ECHO_EVERY);
    };
    channel.onclose = () => this.stop();
    channel.onmessage = ({ data }) => {
      const sent = this.#waiting.get(data);
      if (this.#waiting.delete(data)) this.#add(performance.now() - sent);
    };
  }

  stop() {
    clearInterval(this.#timer);
  }

  result() {
    const answered = this.#results.filter((rtt) => rtt !== null).sort((a, b) => a - b);
    if (answered.length === 0) return null;
    const sent = this.#results.length;
    return { rtt: answered[answered.length >> 1], sent, lost: sent - answered.length };
  }

  #send(channel) {
    const now = performance.now();
    for (const [text, sent] of this.#waiting) {
      if (now - sent < ECHO_LOST_AFTER) break;
      this.#waiting.delete(text);
      this.#add(null);
    }
    if (channel.readyState !== "open") return;
    const text = `echo ${this.#next++}`;
    this.#waiting.set(text, now);
    channel.send(text);
  }

  #add(rtt) {
    this.#results.push(rtt);
    if (this.#results.length > ECHO_WINDOW) this.#results.shift();
  }
}
