// What goes out on a data channel that echoes, and whether it comes back unharmed and in order.

/** How many messages of a run may be on their way at once. */
const WINDOW = 16;

/** How often a message goes out all by itself, milliseconds. */
const HEARTBEAT = 20;

/** Message `number` of a run: text and binary by turns, of 1 byte to 16 KiB. After one of 0 bytes webrtc-rs
 * 0.17 takes the channel for closed. */
export function message(number) {
  const length = 1 + ((number * 7919) % (16384 >> ((number % 7) * 2)));
  if (number % 2 === 0) {
    return Uint8Array.from({ length }, (_, at) => (at * 31 + number * 17) & 255);
  }
  // Ten bytes of UTF-8, with a character of each length.
  return 'x'.repeat(length % 10) + 'aß€😀'.repeat(length / 10) + (length < 10 ? 'x' : '');
}

/** Sends messages and compares what comes back. */
export class Echo {
  #send;
  #heartbeat;
  #awaited = [];
  #failure = null;
  #count = 0;
  #slowest = 0;
  #wake = () => {};

  /** `send` takes a string or a `Uint8Array`. */
  constructor(send) {
    this.#send = send;
  }

  /** From now on a message goes out every few milliseconds, until the end. */
  start() {
    this.#heartbeat = setInterval(() => this.#out(`heartbeat ${this.#count}`), HEARTBEAT);
  }

  /** Sends this many messages, and returns when all of them have come back. */
  async messages(count) {
    for (let number = 0; number < count; number++) {
      this.#out(message(number));
      await this.#until(() => this.#awaited.length < WINDOW);
    }
    const last = this.#awaited.at(-1);
    await this.#until(() => !this.#awaited.includes(last));
    return { messages: count };
  }

  /** How many have come back, and the longest that one of them took, or has been taking. */
  status() {
    this.#check();
    const now = performance.now();
    const oldest = this.#awaited.length === 0 ? 0 : now - this.#awaited[0].at;
    return { echoed: this.#count, slowest_ms: Math.ceil(Math.max(this.#slowest, oldest)) };
  }

  /** Ends, once everything has come back. */
  async stop() {
    clearInterval(this.#heartbeat);
    await this.#until(() => this.#awaited.length === 0);
  }

  /** To be called with each message that arrives: a string, an `ArrayBuffer` or a `Uint8Array`. */
  received(data) {
    const awaited = this.#awaited.shift();
    if (awaited === undefined) {
      this.fail('a message that was never sent');
    } else if (!same(awaited.data, data)) {
      this.fail(`${describe(awaited.data)} came back as ${describe(data)}`);
    } else {
      this.#count += 1;
      this.#slowest = Math.max(this.#slowest, performance.now() - awaited.at);
      this.#wake();
    }
  }

  /** To be called when the channel is lost. */
  fail(reason) {
    clearInterval(this.#heartbeat);
    this.#failure ??= new Error(reason);
    this.#wake();
  }

  #out(data) {
    this.#awaited.push({ data, at: performance.now() });
    try {
      this.#send(data);
    } catch (e) {
      this.fail(`cannot send: ${e}`);
    }
  }

  async #until(condition) {
    for (this.#check(); !condition(); this.#check()) {
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  #check() {
    if (this.#failure !== null) {
      throw this.#failure;
    }
  }
}

function same(sent, received) {
  if (typeof sent === 'string' || typeof received === 'string') {
    return sent === received;
  }
  const bytes = new Uint8Array(received);
  return sent.length === bytes.length && sent.every((byte, at) => byte === bytes[at]);
}

function describe(data) {
  const kind = typeof data === 'string' ? 'text' : 'binary';
  return `${kind} of ${data.length ?? data.byteLength}`;
}
