// RTP made by hand, for clients that leave the media to the application.

const HEADER = 12;

/** A stream of RTP packets, RFC 3550 §5.1, whose payloads can be told to be right. */
export class Stream {
  #payloadType;
  #ssrc;
  #length;
  #clock;
  #number = 0;
  #timer;
  /** How many packets have come back as they went out, but for the header. */
  come = 0;

  /** `length` of the payload in bytes, `clock` in ticks per packet. */
  constructor({ payloadType, ssrc, length, clock }) {
    this.#payloadType = payloadType;
    this.#ssrc = ssrc;
    this.#length = length;
    this.#clock = clock;
  }

  /** Sends a packet every 20 milliseconds. */
  start(send) {
    this.#timer = setInterval(() => send(this.#next()), 20);
  }

  stop() {
    clearInterval(this.#timer);
  }

  /** To be called with each packet that comes back. RTCP is passed over. */
  received(packet) {
    if (packet[1] >= 192 && packet[1] <= 223) {
      return;
    }
    const extension = packet[0] & 0x10 ? 4 + 4 * packet.readUInt16BE(HEADER + 4 * (packet[0] & 0x0f) + 2) : 0;
    const payload = packet.subarray(HEADER + 4 * (packet[0] & 0x0f) + extension);
    if (payload.length === this.#length && payload.equals(this.#payload(payload.readUInt32BE(2)))) {
      this.come += 1;
    }
  }

  #next() {
    const header = Buffer.alloc(HEADER);
    header[0] = 0x80;
    header[1] = 0x80 | this.#payloadType;
    header.writeUInt16BE(this.#number & 0xffff, 2);
    header.writeUInt32BE((this.#number * this.#clock) >>> 0, 4);
    header.writeUInt32BE(this.#ssrc, 8);
    return Buffer.concat([header, this.#payload(this.#number++)]);
  }

  /** The first two bytes say "start of a key frame" to who takes it for VP8, RFC 7741 §4.2. */
  #payload(number) {
    const payload = Buffer.alloc(this.#length, number & 255);
    payload.writeUInt16BE(0x1000, 0);
    payload.writeUInt32BE(number, 2);
    return payload;
  }
}

/** Opus and VP8. */
export const AUDIO = { payloadType: 111, ssrc: 1001, length: 120, clock: 960 };
export const VIDEO = { payloadType: 96, ssrc: 2002, length: 1000, clock: 1800 };
