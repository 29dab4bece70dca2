// The guard: an option change that cuts a client off is taken back by itself.

import { foreign, h, put } from "../dom.js";
import { askedText } from "./asked.js";
import { clock } from "./format.js";
import { serverTime } from "./live.js";

const REASONS = { revert_after_s: "the time that was set is over" };

/** How long it stays to be read that all went well, in milliseconds. */
const KEPT_FOR = 15_000;

export function guard() {
  const word = h("strong");
  const text = h("span");
  const element = h("div", { class: "notice guard", hidden: true }, h("span", { role: "status" }, word), " ", text);
  let [now, timer, watched] = [null, null, 0];

  function draw() {
    clearTimeout(timer);
    const state = now?.state;
    element.hidden = !state;
    if (!state) return;
    element.className = `notice guard ${state}`;
    if (state === "watching") {
      watched = Date.now();
      put(word, "Being watched:");
      put(text, now.until ? timed() : `for ${Math.max(0, Math.floor(since(now.since)))} s by now. If the change cuts the client off, it is taken back by itself.`);
      timer = setTimeout(draw, 250);
    } else if (state === "reverted") {
      put(word, "Taken back:");
      const reason = REASONS[now.reason] ?? foreign(now.reason ?? "the client was cut off");
      put(text, `the change of ${clock(now.since)} is undone: ${reason}. ${restored()}`);
    } else {
      put(word, "✓ Kept:");
      put(text, "the client still answers with the new options.");
      // It is news only to those who have seen it being watched.
      if (Date.now() - watched < KEPT_FOR) timer = setTimeout(draw, 1_000);
      else element.hidden = true;
    }
  }

  const since = (at) => (serverTime() - Date.parse(at)) / 1_000;

  /** Somebody wants it taken back in any case. */
  function timed() {
    const left = Math.max(0, Math.ceil(-since(now.until)));
    return `${left} s left, then the change is taken back as asked, and before if it cuts the client off.`;
  }

  function restored() {
    const before = askedText(now.before);
    return before ? `In force again: ${before}.` : "Nothing is set any more.";
  }

  return {
    element,
    show(it) {
      now = it;
      draw();
    },
    destroy: () => clearTimeout(timer),
  };
}
