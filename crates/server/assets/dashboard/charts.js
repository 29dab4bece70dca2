// The charts of a client, one below the other on one time scale.

import { h, put } from "../dom.js";
import { chart, forgetColours } from "./chart.js";
import { clock, moment, ms, percent, rate, span } from "./format.js";
import { CLASSES, dscpName, dscpOf } from "./marks.js";
import { failed } from "./states.js";

const SPANS = [
  [60, "1 minute"],
  [300, "5 minutes"],
  [900, "15 minutes"],
  [3_600, "1 hour"],
  [21_600, "6 hours"],
  [86_400, "1 day"],
  [Number.MAX_SAFE_INTEGER, "all"],
];

/** The only ticks of a scale whose values are names. */
const present = (columns) => [...new Set(columns.flat().filter((value) => value != null))].sort((a, b) => a - b);

const perClass = (way) => CLASSES.map((name) => ({ name, value: ({ classes }) => classes?.[name] && classes[name][`${way}_bytes`] * 8 }));

const CHARTS = [
  {
    title: "Round trip",
    lines: [
      { name: "round trip", value: ({ rtt_ms }) => rtt_ms },
      { name: "jitter", value: ({ jitter_ms }) => jitter_ms },
    ],
    format: ms,
    range: { low: 0, high: 5 },
  },
  { title: "Loss", lines: [{ name: "lost", value: ({ loss }) => loss }], format: percent, range: { low: 0, high: 0.02 } },
  { title: "Sent", lines: perClass("sent"), format: rate, range: { low: 0, high: 1_000 } },
  { title: "Received", lines: perClass("received"), format: rate, range: { low: 0, high: 1_000 } },
  {
    title: "TTL received",
    lines: [{ name: "TTL", value: ({ received_ttl }) => received_ttl }],
    format: (value) => String(value),
    range: { room: 2 },
    steps: true,
    ticks: present,
  },
  {
    title: "DSCP received",
    lines: [{ name: "DSCP", value: ({ received_tos }) => dscpOf(received_tos) }],
    format: dscpName,
    range: { room: 3 },
    steps: true,
    ticks: present,
  },
];

/**
 * `changes()` gives what is to be marked, `windows()` what is to be shaded; `onselect` gets a range that was drawn, and
 * `set(name, range)` hands one on to be compared.
 */
export function charts(history, { changes, windows, set }) {
  let selection = null;
  const drawn = CHARTS.map((description) => chart(description, { onselect: select }));

  const spans = h("select", { "aria-label": "How much is shown" }, ...SPANS.map(([value, name]) => h("option", { value, selected: value === history.view.span }, name)));
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => look(history.view.span == null ? { span: Number(spans.value) } : fixed(history.range)) }, "Pause");
  const range = h("p", { class: "muted numbers" });
  const chosen = h("p", { class: "numbers" });
  const tools = h(
    "div",
    { class: "selection", hidden: true, role: "group", "aria-label": "The range that is selected" },
    chosen,
    h("button", { type: "button", onclick: () => hand("a") }, "Compare as A (before)"),
    h("button", { type: "button", onclick: () => hand("b") }, "Compare as B (after)"),
    h("button", { type: "button", onclick: () => look(fixed([selection.from, selection.to])) }, "Zoom in"),
    h("button", { type: "button", class: "quiet", onclick: () => select(null) }, "Select nothing"),
  );
  const trouble = h("div");
  const element = h(
    "div",
    { class: "charts" },
    h("div", { class: "tools" }, h("label", null, "Show ", spans), pause, range),
    tools,
    trouble,
    h("div", { class: "grid" }, ...drawn.map(({ element }) => element)),
  );

  spans.addEventListener("change", () => look({ span: Number(spans.value) }));

  const fixed = ([from, to]) => ({ from, to });

  function look(view) {
    history.view = view;
    if (view.span == null && selection && selection.from === view.from) select(null);
    load();
    draw();
  }

  function select(it) {
    selection = it;
    tools.hidden = !it;
    if (it) put(chosen, `${clock(it.from * 1000)} to ${clock(it.to * 1000)}, ${span(it.to - it.from)}:`);
    draw();
  }

  function hand(name) {
    set(name, selection);
    select(null);
  }

  async function load() {
    try {
      await history.load();
      trouble.replaceChildren();
    } catch (error) {
      if (error.name === "AbortError") return;
      // What comes from now on is shown all the same.
      trouble.replaceChildren(failed({ message: `The history could not be loaded. ${error.message}` }, load));
    }
    draw();
  }

  function draw() {
    const isPaused = history.view.span == null;
    put(pause, isPaused ? "Back to live" : "Pause");
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.hidden = history.ended != null && !isPaused;
    const [from, to] = history.range;
    put(range, `${moment(from * 1000)} to ${clock(to * 1000)}${history.samples.length === 0 ? ": nothing is recorded of this time" : ""}`);
    const bands = windows().concat(selection ? [{ name: "selected", label: "", ...selection }] : []);
    const marks = changes();
    for (const it of drawn) it.draw(history.columns(it.values), [from, to], marks, bands);
  }

  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => {
    forgetColours();
    drawn.forEach((it) => it.redraw());
  };
  scheme.addEventListener("change", repaint);
  const timer = setInterval(() => !document.hidden && history.isLive && draw(), 1_000);

  return {
    element,
    load,
    draw,
    destroy() {
      clearInterval(timer);
      scheme.removeEventListener("change", repaint);
      for (const it of drawn) it.destroy();
    },
  };
}
