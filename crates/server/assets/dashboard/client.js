// The page of one client.

import { Problem, api, clientPath, isLeft, save } from "./api.js";
import { foreign, h, mark, put } from "../dom.js";
import { badge } from "../words.js";
import { changes } from "./changes.js";
import { charts } from "./charts.js";
import { nameOf } from "./client-row.js";
import { compare } from "./compare.js";
import { bytes, exactly, moment, ms, percent, seconds, span } from "./format.js";
import { guard } from "./guard.js";
import { History } from "./history.js";
import { live, serverName, serverTime } from "./live.js";
import { ECN_NAMES, dscpName, dscpOf, ecnOf } from "./marks.js";
import { measurements } from "./measurements.js";
import { comparison, options } from "./options.js";
import { empty, failed, loading } from "./states.js";

export function client(main, { words: [id] }) {
  document.title = "Client · perpacket";
  const left = new AbortController();
  const waiting = h("div", null, loading("Loading the client…"));
  main.append(waiting);
  let [it, page] = [null, null];
  /** What was asked for as of the last change that is listed. The answer to a change may be here before its event. */
  let listed = null;

  async function load() {
    try {
      const [now, recorded] = await Promise.all([
        api(clientPath(id), { left: left.signal }),
        // Without its history a client can still be watched.
        api(clientPath(id, "/changes"), { left: left.signal }).catch((error) => {
          if (isLeft(error)) throw error;
          return { changes: [] };
        }),
      ]);
      it = now;
      listed = now.asked;
      if (!page) {
        page = build(id, left, { answered: show, measured });
        waiting.remove();
        main.append(page.element);
      }
      page.load(it, recorded.changes);
    } catch (error) {
      if (isLeft(error) || page) return;
      const isNone = error instanceof Problem && error.status === 404;
      const back = h("a", { class: "button", href: "/dashboard" }, "To the clients");
      waiting.replaceChildren(isNone ? empty("There is no such client", "Its history may have been too old to be kept. ", back) : failed(error, load));
    }
  }

  /** What a measurement has found belongs to the client, unless there is something newer. */
  function measured(kind, { ended }, { mtu, exact }) {
    if (kind === "pmtu" && seconds(ended) > seconds(it.path_mtu?.at ?? 0)) show({ path_mtu: { mtu, exact, at: ended } });
  }

  function show(what) {
    Object.assign(it, what);
    page.show(it);
  }

  const stream = live({
    client: id,
    load,
    on: {
      client: (now) => now.id === id && page && show(now),
      sample({ client, sample, verdict, applied }) {
        if (client !== id || !page) return;
        page.sample(sample);
        show({ sample, ...(verdict && { verdict }), ...(applied && { applied }) });
      },
      options(event) {
        if (event.client !== id || !page) return;
        page.changed(event, listed);
        listed = event.asked;
        show({ asked: event.asked, guard: event.guard });
      },
      measurement: (info) => info.client === id && page?.measurement(info),
      row: (row) => row.client === id && page?.row(row),
    },
  });

  return () => {
    left.abort();
    stream.close();
    page?.destroy();
  };
}

const heading = (level, title, key) => h(level, { id: key, tabindex: -1, "data-stop": true }, title);

const section = (key, title, ...what) => h("section", { class: "part", "aria-labelledby": key }, heading("h2", title, key), ...what);

function build(id, left, { answered, measured }) {
  const top = header(id);
  const history = new History(id, left.signal);
  const watched = guard();
  const table = comparison();
  const form = options(id, { answered });
  const windows = compare(id, left, { moved: () => drawn.draw() });
  const list = changes({ around: windows.around });
  const drawn = charts(history, { changes: list.all, windows: windows.windows, set: windows.set });
  const runs = measurements(id, left, { done: measured });

  const element = h(
    "div",
    { class: "client" },
    top.element,
    watched.element,
    h(
      "div",
      { class: "columns" },
      h("div", null, section("charts", "Charts", drawn.element), section("changes", "Changes", list.element), section("compare", "Before and after", windows.element)),
      h("div", null, section("options", "Options of its packets", form.element, table.element), section("connection", "Connection", top.facts)),
    ),
    section("measurements", "Measurements", runs.element),
  );

  function closed(it) {
    if (it.ended) return "The client has gone. This is its history.";
    if (serverName && it.server !== serverName) return `The client is connected to ${foreign(it.server, 60)}: it is changed and measured there.`;
    return null;
  }

  function show(it) {
    top.show(it);
    watched.show(it.guard);
    table.show(it);
    form.show(it.asked);
    if (it.ended) history.ended = seconds(it.ended);
    const why = closed(it);
    if (why !== show.why) {
      show.why = why;
      form.close(why);
      runs.close(why);
    }
  }
  show.why = null;

  return {
    element,
    show,
    load(it, recorded) {
      history.since = seconds(it.since);
      show(it);
      list.load(recorded);
      drawn.load();
      runs.load(it.measurements ?? []);
    },
    sample: (sample) => history.add(sample),
    changed(event, before) {
      list.add(event, before);
      drawn.draw();
    },
    measurement: (info) => runs.info(info),
    row: (row) => runs.row(row),
    destroy() {
      drawn.destroy();
      watched.destroy();
    },
  };
}

/** Who it is, how it is, and what is known of its connection. */
function header(id) {
  const name = h("h1", { tabindex: -1, "data-stop": true });
  const agent = h("p", { class: "muted agent" });
  const verdict = badge("unknown");
  const reasons = h("span");
  const over = h("p", { class: "notice", hidden: true });
  const complaint = h("p", { class: "complaint", role: "alert" });
  const files = ["json", "csv", "pcap"].map((format) => h("button", { type: "button", onclick: ({ currentTarget }) => get(format, currentTarget) }, format.toUpperCase()));
  const element = h(
    "header",
    { class: "who" },
    h("p", { class: "back" }, h("a", { href: "/dashboard" }, "← Clients")),
    h("div", { class: "headline" }, h("div", null, h("bdi", null, name), agent), h("div", { class: "tools", role: "group", "aria-label": "Export" }, h("span", { class: "muted" }, "Export"), ...files)),
    h("p", { class: "judged" }, verdict, reasons),
    over,
    complaint,
  );

  async function get(format, button) {
    button.disabled = true;
    put(complaint, "");
    try {
      await save(clientPath(id, `/export?format=${format}`), `perpacket-${id.slice(0, 8)}.${format}`);
    } catch (error) {
      put(complaint, `The file could not be fetched. ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }

  const facts = h("dl", { class: "list" });
  const shown = new Map();
  function fact(title, text, exact) {
    if (!shown.has(title)) {
      shown.set(title, h("dd"));
      facts.append(h("div", null, h("dt", null, title), shown.get(title)));
    }
    put(shown.get(title), text);
    mark(shown.get(title), "title", exact);
  }

  const end = (address, type) => (address ? `${foreign(address)}${type ? ` (${foreign(type)})` : ""}` : "–");

  return {
    element,
    facts,
    show(it) {
      const { sample, pair } = it;
      put(name, nameOf(it));
      document.title = `${nameOf(it)} · perpacket`;
      put(agent, foreign(it.user_agent, 300));
      verdict.show(it.verdict?.level);
      const because = (it.verdict?.reasons ?? []).map((reason) => foreign(reason)).join(", ");
      put(reasons, because ? `: ${because}` : "");
      over.hidden = !it.ended;
      if (it.ended) put(over, `The session ended at ${moment(it.ended)}, after ${span(seconds(it.ended) - seconds(it.since))}. This is its history.`);
      fact("State", it.ended ? "ended" : it.state);
      fact("Client", end(pair?.remote ?? it.client, pair?.remote_type));
      fact("Server", end(pair?.local, pair?.local_type));
      fact("Offer from", it.client ?? "–");
      fact("Since", `${moment(it.since)}, ${span((it.ended ? seconds(it.ended) : serverTime() / 1_000) - seconds(it.since))}`, exactly(it.since));
      fact("Round trip", ms(sample?.rtt_ms));
      fact("Jitter", ms(sample?.jitter_ms));
      fact("Loss", percent(sample?.loss));
      fact("TTL received", sample?.received_ttl ?? "–");
      const tos = sample?.received_tos;
      fact("DSCP, ECN received", tos == null ? "–" : `${dscpName(dscpOf(tos))}, ${ECN_NAMES[ecnOf(tos)]}`);
      fact("Path MTU", it.path_mtu ? `${bytes(it.path_mtu.mtu)}${it.path_mtu.exact ? ", exact" : " at least"}` : "not measured", it.path_mtu && exactly(it.path_mtu.at));
      const icmp = sample?.icmp;
      fact("ICMP errors", icmp ? `${icmp.time_exceeded} time exceeded, ${icmp.unreachable} unreachable, ${icmp.too_big} too big, ${icmp.other} other` : "–");
      fact("Dropped", sample ? `${sample.dropped} packets` : "–");
      fact("Id", it.id);
      fact("On", foreign(it.server, 60));
    },
  };
}
