// The four measurements of a client: each can be started and stopped, is shown while it runs, and kept.

import { api, clientPath, isLeft } from "./api.js";
import { foreign, h, mark, put } from "../dom.js";
import { moment, seconds, span } from "./format.js";
import { serverTime } from "./live.js";
import { pmtu } from "./pmtu.js";
import { qos } from "./qos.js";
import { trace } from "./trace.js";
import { ttl } from "./ttl.js";

const KINDS = [trace, qos, pmtu, ttl];

const STATES = { running: "running", done: "done", stopped: "stopped", failed: "failed" };

/**
 * A card for each kind. A kind has a `title`, says what it is `about`, has `settings` that go into the request, and a
 * `view()` with an `element`, `clear()`, `event(it)` and `report(it)`.
 */
export function measurements(id, left, { done }) {
  const cards = new Map(KINDS.map((kind) => [kind.kind, card(id, kind, left, done)]));
  return {
    element: h("div", { class: "cards" }, ...[...cards.values()].map(({ element }) => element)),
    /** All that is known of this client's, the newest first. */
    load(all) {
      for (const [kind, it] of cards) it.load(all.filter((info) => info.kind === kind));
    },
    info: (info) => cards.get(info.kind)?.info(info),
    row: ({ kind, measurement, event }) => cards.get(kind)?.row(measurement, event),
    close: (why) => cards.forEach((it) => it.close(why)),
  };
}

function card(id, kind, left, done) {
  const view = kind.view();
  const known = new Map();
  let [shown, isClosed] = [null, null];

  const titleId = `measure-${kind.kind}`;
  const start = h("button", { type: "submit", class: "primary", "aria-describedby": titleId }, "Start");
  const stop = h("button", { type: "button", hidden: true, "aria-describedby": titleId, onclick: end }, "Stop");
  const which = h("select", { "aria-label": `${kind.title}: which run`, hidden: true, onchange: () => choose(which.value) });
  const complaint = h("p", { class: "complaint", role: "alert" });
  const state = h("p", { class: "muted", role: "status" });
  const settings = kind.settings.map((setting) => control(kind.kind, setting));
  const form = h(
    "form",
    { novalidate: true, onsubmit: begin },
    h("div", { class: "tools" }, start, stop, which),
    h("details", null, h("summary", null, "Settings"), h("div", { class: "settings" }, ...settings.map(({ element }) => element))),
  );
  const nothing = h("p", { class: "muted" }, "Not measured yet.");
  const element = h(
    "section",
    { class: `card ${kind.kind}`, "aria-labelledby": titleId },
    h("h3", { id: titleId, tabindex: -1, "data-stop": true }, kind.title),
    h("p", { class: "muted" }, kind.about),
    form,
    complaint,
    state,
    nothing,
    view.element,
  );
  view.element.hidden = true;

  async function begin(event) {
    event.preventDefault();
    put(complaint, "");
    start.disabled = true;
    try {
      const body = { kind: kind.kind };
      for (const { name, value, input } of settings) {
        mark(input, "aria-invalid", null);
        const given = value();
        if (given !== null) body[name] = given;
      }
      info(await api(clientPath(id, "/measurements"), { method: "POST", body, left: left.signal }));
    } catch (error) {
      complain(error);
    } finally {
      start.disabled = Boolean(isClosed);
    }
  }

  async function end() {
    stop.disabled = true;
    try {
      await api(path(shown.id), { method: "DELETE", left: left.signal });
    } catch (error) {
      complain(error);
    } finally {
      stop.disabled = false;
    }
  }

  function complain(error) {
    if (isLeft(error)) return;
    put(complaint, error.message);
    const setting = settings.find(({ name }) => name === error.field);
    if (!setting) return;
    mark(setting.input, "aria-invalid", "true");
    form.querySelector("details").open = true;
    setting.input.focus();
  }

  const path = (run) => clientPath(id, `/measurements/${encodeURIComponent(run)}`);

  /** Shows a run as far as it got; its rows come as events from here on. */
  async function choose(run) {
    shown = known.get(run);
    view.clear(shown.config ?? {});
    draw();
    try {
      const all = await api(path(run), { left: left.signal });
      if (shown?.id !== run) return;
      known.set(run, (shown = { ...known.get(run), ...withoutRows(all) }));
      for (const event of all.events ?? []) view.event(event);
      if (all.report) {
        view.report(all.report);
        done(kind.kind, shown, all.report);
      }
      draw();
    } catch (error) {
      complain(error);
    }
  }

  const withoutRows = ({ events, report, ...info }) => info;

  function info(it) {
    const before = known.get(it.id);
    // An answer can be older than the event that came before it.
    if (before && before.state !== "running" && it.state === "running") return;
    known.set(it.id, it);
    const isNew = !before && !(shown && seconds(shown.started) > seconds(it.started));
    if (isNew || (shown?.id === it.id && before?.state === "running" && it.state !== "running")) choose(it.id);
    else if (shown?.id === it.id) {
      shown = it;
      draw();
    }
  }

  function draw() {
    const isRunning = [...known.values()].some((it) => it.state === "running");
    start.hidden = isRunning;
    stop.hidden = shown?.state !== "running" || Boolean(isClosed);
    nothing.hidden = Boolean(shown);
    view.element.hidden = !shown;
    const runs = [...known.values()].sort((a, b) => seconds(b.started) - seconds(a.started));
    which.hidden = runs.length < 2;
    const names = runs.map((it) => `${moment(it.started)}, ${STATES[it.state] ?? foreign(it.state)}`);
    if (names.join() !== [...which.options].map(({ text }) => text).join()) {
      which.replaceChildren(...runs.map((it, at) => h("option", { value: it.id }, names[at])));
    }
    which.value = shown?.id ?? "";
    if (!shown) return put(state, "");
    state.className = shown.state === "running" ? "muted working" : "muted";
    const to = shown.ended ? seconds(shown.ended) : serverTime() / 1_000;
    const time = span(to - seconds(shown.started));
    const error = shown.error ? `: ${foreign(shown.error, 400)}` : "";
    put(state, shown.state === "running" ? `Running since ${moment(shown.started)}` : `${moment(shown.started)}, ${STATES[shown.state] ?? foreign(shown.state)} after ${time}${error}`);
  }

  return {
    element,
    load(all) {
      for (const it of all) known.set(it.id, it);
      const newest = all.find((it) => it.state === "running") ?? all[0];
      // Whoever looks at a run that is over goes on doing so.
      if (shown && shown.state !== "running" && newest?.state !== "running") draw();
      else if (newest) choose(newest.id);
    },
    info,
    row(run, event) {
      if (run === shown?.id) view.event(event);
    },
    close(why) {
      isClosed = why;
      start.disabled = Boolean(why);
      mark(start, "title", why);
      draw();
    },
  };
}

/** A setting: a number, a yes or no, or words with commas between them. What is left empty is not sent. */
function control(kind, { name, label, type, ...attributes }) {
  const id = `${kind}-${name}`;
  if (type === "checkbox") {
    const input = h("input", { id, type });
    return { name, input, value: () => (input.checked ? true : null), element: h("p", null, h("label", null, input, label)) };
  }
  const input = h("input", { id, type: type === "words" ? "text" : "number", inputmode: type === "words" ? null : "numeric", spellcheck: "false", ...attributes });
  const words = () => input.value.split(/[\s,]+/).filter(Boolean);
  const value = () => {
    if (input.validity.badInput) throw Object.assign(new Error("That is not a number."), { field: name });
    if (input.value.trim() === "") return null;
    return type === "words" ? words() : Number(input.value);
  };
  return { name, input, value, element: h("p", { class: "field" }, h("label", { for: id }, label), input) };
}
