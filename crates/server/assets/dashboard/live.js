// What keeps a page alive: the events it follows, and the word at the top about how that goes.

import { api, query } from "./api.js";
import { h, foreign, put } from "../dom.js";
import { follow } from "./events.js";

const element = (id) => document.getElementById(id);

/** How long to wait for the stream before a page is loaded without it. */
const EARLY = 1_500;

/** How far this browser's clock is behind the server's, in milliseconds. */
let behind = 0;

/** The time by the server's clock, in milliseconds since 1970. */
export const serverTime = () => Date.now() + behind;

/** The name of the server that this page is from; null until it is known. */
export let serverName = null;

/**
 * Follows the events of one client or of all until `close()`. `on` has a function for each kind of event. `load`
 * is called whenever something may have been missed: at first, after a lost connection, and when the server says so.
 */
export function live({ client = null, on, load }) {
  const early = setTimeout(load, EARLY);
  let ticking;
  const stream = follow(`/api/events${query({ client })}`, {
    on(name, data) {
      if (name === "hello") {
        behind = Date.parse(data.now) - Date.now() || 0;
        serverName = data.server;
      }
      if (name === "lagged") load();
      on[name]?.(data);
    },
    state(state) {
      clearInterval(ticking);
      show(state);
      if (state.is === "waiting") ticking = setInterval(() => show(state), 1_000);
      if (state.is !== "open") return;
      clearTimeout(early);
      load();
      showServer();
    },
  });

  function show({ is, until, attempt, why }) {
    const gone = is !== "open" && attempt > 0;
    const texts = { open: "● live", connecting: "◌ connecting", waiting: "○ not live" };
    put(element("stream"), texts[is]);
    document.body.classList.toggle("stale", gone);
    const banner = element("banner");
    if (!gone) {
      banner.hidden = true;
      return;
    }
    if (banner.hidden) {
      const again = h("button", { type: "button", onclick: () => stream.now() }, "Try now");
      banner.replaceChildren(h("strong"), " ", h("span", { "aria-live": "off" }), " ", again);
      banner.hidden = false;
    }
    if (is === "waiting") put(banner.querySelector("strong"), why ? `The server sends no events: ${foreign(why)}.` : "The server does not answer.");
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1_000));
    put(banner.querySelector("span"), is === "waiting" ? `What is shown is old. Trying again in ${left} s.` : "Trying again…");
  }

  return {
    close() {
      clearTimeout(early);
      clearInterval(ticking);
      stream.close();
      put(element("stream"), "");
      element("banner").hidden = true;
      document.body.classList.remove("stale");
    },
  };
}

/** Who answers, and whether what happens is recorded. */
export async function showServer() {
  let server;
  try {
    server = await api("/api/server");
  } catch {
    return;
  }
  serverName = server.name;
  put(element("server"), `${foreign(server.name, 60)} · ${foreign(server.version, 30)} · UDP ${server.udp.join(", ")}`);
  const box = element("recording");
  const why = server.recording_error ? `: ${foreign(server.recording_error)}` : "";
  put(box, server.recording ? "" : `History is not being recorded${why}. Calls and measurements go on.`);
  box.hidden = server.recording;
}
