// Server-sent events by `fetch`, because an EventSource cannot send the token.

import { Problem, open } from "./api.js";

/** The server says something at least every 10 seconds. */
const SILENCE = 30_000;

const LONGEST_WAIT = 20_000;

/** Takes a stream of text apart into events (HTML Standard, §9.2.6). */
class EventParser {
  #rest = "";
  #event = { name: "message", data: [], id: null };

  /** The events that this piece of the stream completes. */
  push(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line.replace(/\r$/, ""))).filter(Boolean);
  }

  #line(line) {
    if (line === "") {
      const { name, data, id } = this.#event;
      this.#event = { name: "message", data: [], id: null };
      return data.length > 0 ? { name, data: data.join("\n"), id } : null;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") this.#event.name = value;
    if (field === "data") this.#event.data.push(value);
    if (field === "id") this.#event.id = value;
    return null;
  }
}

/**
 * Follows a stream of events until `close()`, across lost connections: it goes on from the last event that came.
 *
 * `on(name, data)` gets each event, `state({is, until, attempt, why})` how it stands: "connecting", "open", or
 * "waiting" until a time in milliseconds, with the server's reason if it gave one.
 */
export function follow(path, { on, state }) {
  const left = new AbortController();
  let [last, attempt, hurry] = [null, 0, () => {}];

  async function once() {
    const silent = new AbortController();
    let timer = setTimeout(() => silent.abort(), SILENCE);
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE);
    };
    try {
      const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) };
      const signal = AbortSignal.any([left.signal, silent.signal]);
      const response = await open(path, { headers, signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      attempt = 0;
      state({ is: "open" });
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        for (const { name, data, id } of parser.push(value)) {
          if (id) last = id;
          on(name, JSON.parse(data));
        }
      }
    } finally {
      clearTimeout(timer);
      silent.abort();
    }
  }

  async function run() {
    while (!left.signal.aborted) {
      let why = null;
      state({ is: "connecting", attempt });
      try {
        await once();
      } catch (error) {
        if (left.signal.aborted) return;
        // The token is asked for elsewhere.
        if (error instanceof Problem && error.status === 401) return;
        if (error instanceof Problem && error.status > 0) why = error.message;
        else if (!(error instanceof Problem) && error.name !== "AbortError" && error.name !== "TypeError") console.error(error);
      }
      if (left.signal.aborted) return;
      // Many dashboards that lost one server shall not come back at the same moment.
      const wait = Math.min(LONGEST_WAIT, 500 * 2 ** attempt) * (0.75 + Math.random() / 2);
      attempt += 1;
      state({ is: "waiting", until: Date.now() + wait, attempt, why });
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, wait);
        hurry = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  const now = () => hurry();
  addEventListener("online", now);
  run();
  return {
    /** Does not wait any longer. */
    now,
    close() {
      left.abort();
      removeEventListener("online", now);
      hurry();
    },
  };
}
