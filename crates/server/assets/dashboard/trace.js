// Where the path goes: the hops, as they are found.

import { foreign, h, keyed, mark, put } from "../dom.js";
import { bytes, count, ms, percent, us } from "./format.js";
import { tosText } from "./marks.js";

const lossOf = ({ received, lost }) => (received + lost > 0 ? lost / (received + lost) : null);

const TIMES = ["last", "best", "median", "p95", "worst", "jitter"];

/** What there is to say of a hop beside its numbers. */
function notes(hop) {
  const loss = lossOf(hop.rtt);
  const out = [];
  if (hop.peer) out.push("the client");
  if (hop.error) out.push(hop.error);
  if (!hop.peer && !hop.silent && hop.attribution !== "transaction_id") out.push("not proved");
  if (!hop.silent && hop.path_loss != null && loss > hop.path_loss + 0.005) out.push("limits its answers, forwards all the same");
  if (hop.mtu) out.push(`MTU ${bytes(hop.mtu)}`);
  for (const extension of hop.extensions ?? []) {
    if (extension.type === "mpls") out.push(...extension.labels.map(({ label }) => `MPLS ${label}`));
  }
  if (hop.quote?.tos) out.push(`arrives as ${tosText(hop.quote.tos)}`);
  return out.join(", ");
}

/** A change of the header between two hops, as a sentence. */
function changeText({ after, before, field, from, to }) {
  const says = {
    tos: () => `TOS ${tosText(from)} becomes ${tosText(to)}`,
    df_bit: () => `DF ${Number(from)} becomes ${Number(to)}`,
    source: () => `the source ${foreign(from)} becomes ${foreign(to)} (NAT)`,
    destination: () => `the destination ${foreign(from)} becomes ${foreign(to)} (NAT)`,
    checksum: () => "the checksum no longer fits (NAT)",
  };
  return `Between hop ${after} and hop ${before}: ${says[field]?.() ?? foreign(field)}.`;
}

function create() {
  const cells = { hop: h("th", { scope: "row", class: "number" }), address: h("td", { class: "where" }), loss: h("td", { class: "number" }), bar: h("span", { class: "loss-bar", "aria-hidden": "true" }), percent: h("span"), sent: h("td", { class: "number" }) };
  cells.loss.append(cells.bar, cells.percent);
  for (const name of TIMES) cells[name] = h("td", { class: "number" });
  cells.notes = h("td", { class: "notes" });
  const row = h("tr", null, cells.hop, cells.address, cells.loss, cells.sent, ...TIMES.map((name) => cells[name]), cells.notes);
  row.cellsByName = cells;
  return row;
}

function update(row, hop) {
  const cells = row.cellsByName;
  const loss = lossOf(hop.rtt);
  put(cells.hop, hop.ttl);
  keyed(
    cells.address,
    hop.addresses.length > 0 ? hop.addresses : [{ address: "no answer", name: null }],
    ({ address }) => address,
    () => h("div", null, h("bdi"), h("span", { class: "muted" })),
    (line, { address, name }) => {
      put(line.firstChild, name ? foreign(name, 80) : foreign(address));
      put(line.lastChild, name ? ` ${foreign(address)}` : "");
    },
  );
  put(cells.percent, percent(loss));
  cells.bar.style.width = `${Math.round((loss ?? 0) * 100)}%`;
  put(cells.sent, count(hop.rtt.sent));
  for (const name of TIMES) put(cells[name], us(hop.rtt[`${name}_us`]));
  put(cells.notes, notes(hop));
  mark(row, "class", hop.peer ? "peer" : hop.silent ? "silent" : null);
}

function view() {
  const hops = new Map();
  const heads = ["Hop", "Address", "Loss", "Sent", "Last", "Best", "Median", "p95", "Worst", "Jitter", "Notes"];
  const body = h("tbody");
  const table = h("table", { class: "hops" }, h("caption", { class: "unseen" }, "Hops"), h("thead", null, h("tr", null, ...heads.map((head, at) => h("th", { scope: "col", class: at === 0 || (at > 1 && at < 10) ? "number" : null }, head)))), body);
  const progress = h("p", { class: "muted numbers" });
  const list = h("ul");
  const element = h("div", null, progress, h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "The hops of the trace" }, table), list);
  let [rounds, said] = [0, []];

  function draw() {
    const all = [...hops.values()].sort((a, b) => a.ttl - b.ttl);
    // Before it is known how far the client is, probes go further.
    const end = all.findIndex(({ peer }) => peer);
    const rows = end < 0 ? all : all.slice(0, end + 1);
    keyed(body, rows, ({ ttl }) => ttl, create, update);
    table.hidden = rows.length === 0;
    put(progress, rows.length === 0 ? "Waiting for the first answers…" : `${rows.length} hops${rounds ? `, ${rounds} ${rounds === 1 ? "round" : "rounds"}` : ""}`);
    list.replaceChildren(...said.map((text) => h("li", null, text)));
  }

  return {
    element,
    clear() {
      hops.clear();
      [rounds, said] = [0, []];
      draw();
    },
    event(it) {
      if (it.event === "hop") hops.set(it.ttl, it);
      // It may come again later, with what is loaded, and is older than the rows then.
      if (it.event === "picture") for (const hop of it.hops) if (!(hops.get(hop.ttl)?.rtt.sent > hop.rtt.sent)) hops.set(hop.ttl, hop);
      if (it.event === "round") rounds = it.number;
      if (it.event === "changed") said.push(`Hop ${it.ttl} was ${foreign(it.from)} and is ${foreign(it.to)}.`);
      if (it.event === "moved") {
        hops.clear();
        said.push(`ICE has moved: ${foreign(it.local)} → ${foreign(it.remote)}.`);
      }
      said = said.slice(-20);
      draw();
    },
    report(it) {
      hops.clear();
      for (const hop of it.hops) hops.set(hop.ttl, hop);
      rounds = it.rounds;
      said = it.changes.map(changeText);
      if (it.raw.status === "unavailable") said.push(`Not seen: ${foreign(it.raw.unseen)} (${foreign(it.raw.reason)}).`);
      if (it.peer_ttl == null) said.push("The client has not answered.");
      if (it.mapped && it.mapped !== it.local && !/^(0\.0\.0\.0|\[::\]):/.test(it.local)) said.push(`The client sees this server as ${foreign(it.mapped)}: there is a NAT on the way.`);
      if (it.picture_us != null) said.push(`Known after ${ms(it.picture_us / 1_000)}; ${foreign(it.note)}.`);
      if (it.interrupted) said.push(`Ended early: ${foreign(it.interrupted)}.`);
      draw();
    },
  };
}

export const trace = {
  kind: "trace",
  title: "Trace",
  about: "The routers on the way to the client, by probes on the media’s own addresses and ports.",
  settings: [
    { name: "rounds", label: "Rounds", type: "number", min: 1, max: 1_000, value: 10 },
    { name: "max_ttl", label: "Largest TTL", type: "number", min: 1, max: 255, placeholder: "30" },
    { name: "interval_ms", label: "From round to round, ms", type: "number", min: 100, max: 60_000, placeholder: "1000" },
    { name: "names", label: "Look up the names of routers", type: "checkbox" },
    { name: "raw", label: "Read the headers that routers quote (CAP_NET_RAW)", type: "checkbox" },
  ],
  view,
};
