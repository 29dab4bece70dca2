// Two windows of time side by side: what has become better, what worse.

import { h, put } from "../dom.js";
import { throughput } from "./client-row.js";
import { NONE, count, ms, percent, rate, signed, span } from "./format.js";
import { samples } from "./history.js";
import { serverTime } from "./live.js";
import { isLeft } from "./api.js";

/** How long the windows on both sides of a change are, in seconds. */
const AROUND = 30;

const GROW_EVERY = 2_000;

/** What goes by until a change shows in the samples, in seconds. */
const SETTLE = 2;

const ordered = (list, value) => list.map(value).filter((it) => it != null).sort((a, b) => a - b);

/** The nearest rank, as the measurements have it. */
const quantile = (share) => (values) => (values.length > 0 ? values[Math.max(0, Math.ceil(values.length * share) - 1)] : null);

const mean = (values) => (values.length > 0 ? values.reduce((sum, it) => sum + it, 0) / values.length : null);

const rtt = ({ rtt_ms }) => rtt_ms;
const jitter = ({ jitter_ms }) => jitter_ms;

const ROWS = [
  ["Round trip, median", rtt, quantile(0.5), ms],
  ["Round trip, p95", rtt, quantile(0.95), ms],
  ["Jitter, median", jitter, quantile(0.5), ms],
  ["Jitter, p95", jitter, quantile(0.95), ms],
  ["Loss, mean", ({ loss }) => loss, mean, percent],
  ["Loss, p95", ({ loss }) => loss, quantile(0.95), percent],
  ["Sent, median", (it) => throughput(it, "sent"), quantile(0.5), rate],
  ["Received, median", (it) => throughput(it, "received"), quantile(0.5), rate],
];

const NAMES = { a: "A (before)", b: "B (after)" };

/** For an input of the browser, in its own time zone. */
function local(time) {
  const date = new Date(time * 1000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** `moved()` is called when a window is another. */
export function compare(id, left, { moved }) {
  const chosen = { a: null, b: null };
  const inputs = Object.fromEntries(["a", "b"].map((name) => [name, ["from", "to"].map((end) => h("input", { type: "datetime-local", step: 1, "aria-label": `${NAMES[name]}, ${end}`, onchange: () => typed(name) }))]));
  const line = (name) => h("p", { class: "window" }, h("strong", null, NAMES[name]), inputs[name][0], " to ", inputs[name][1]);
  const note = h("p", { class: "muted", role: "status" }, "Draw a range in a chart, type two times, or choose “Before and after” of a change.");
  const body = h("tbody");
  const table = h("table", { class: "compare", hidden: true }, h("caption", { class: "unseen" }, "Both windows compared"), h("thead", null, h("tr", null, ...["Measured", NAMES.a, NAMES.b, "Difference"].map((head, at) => h("th", { scope: "col", class: at > 0 ? "number" : null }, head)))), body);
  const clear = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => set({ a: null, b: null }) }, "Clear");
  const element = h("div", null, line("a"), line("b"), note, h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Both windows compared" }, table), clear);

  function typed(name) {
    const [from, to] = inputs[name].map((input) => Date.parse(input.value) / 1000);
    if (from < to) set({ [name]: { from, to } });
    else put(note, `The window ${NAMES[name]} has to end after it begins.`);
  }

  function set(windows) {
    Object.assign(chosen, windows);
    for (const name of ["a", "b"]) {
      const times = chosen[name] ? [chosen[name].from, chosen[name].to] : [null, null];
      inputs[name].forEach((input, at) => (input.value = times[at] == null ? "" : local(times[at])));
    }
    clear.hidden = !chosen.a && !chosen.b;
    moved();
    show();
  }

  /** Both sides of a change. The one after a change that was just made grows until it is as long as the other. */
  function around(time) {
    const end = time + SETTLE + AROUND;
    const to = Math.min(serverTime() / 1000, end);
    const [a, b] = [{ from: time - AROUND, to: time }, { from: Math.min(time + SETTLE, to - 1), to }];
    set({ a, b });
    if (to < end) setTimeout(() => chosen.a === a && chosen.b === b && !left.signal.aborted && around(time), GROW_EVERY);
  }

  async function show() {
    const both = { ...chosen };
    table.hidden = !both.a || !both.b || body.children.length === 0;
    if (!both.a || !both.b) return put(note, both.a || both.b ? `Now the window ${both.a ? NAMES.b : NAMES.a}.` : "");
    if (table.hidden) put(note, "Loading both windows…");
    try {
      // Whole seconds, not what a chart of hours has made of them.
      const loaded = await Promise.all([both.a, both.b].map(({ from, to }) => samples(id, from, to, 1, left.signal)));
      if (both.a !== chosen.a || both.b !== chosen.b) return;
      draw(both, loaded);
    } catch (error) {
      if (isLeft(error)) return;
      table.hidden = true;
      put(note, `The windows could not be loaded. ${error.message}`);
    }
  }

  function draw({ a, b }, [before, after]) {
    const rows = ROWS.map(([title, value, summary, format]) => {
      const [one, other] = [summary(ordered(before, value)), summary(ordered(after, value))];
      const difference = one == null || other == null ? null : other - one;
      return [title, format(one), format(other), signed(format, difference)];
    });
    rows.push(["Samples", count(before.length), count(after.length), NONE]);
    body.replaceChildren(...rows.map(([title, ...cells]) => h("tr", null, h("th", { scope: "row" }, title), ...cells.map((cell) => h("td", { class: "number" }, cell)))));
    table.hidden = false;
    put(note, `${NAMES.a}: ${span(a.to - a.from)}; ${NAMES.b}: ${span(b.to - b.from)}. The difference is B less A.`);
  }

  return {
    element,
    set: (name, range) => set({ [name]: range }),
    around(time) {
      around(time);
      element.scrollIntoView({ block: "nearest" });
    },
    /** For the charts. */
    windows: () => Object.entries(chosen).filter(([, it]) => it).map(([name, it]) => ({ name, label: name.toUpperCase(), ...it })),
  };
}
