// What the path does with marks: each compared with best effort, with the interval that says how sure that is.

import { foreign, h, put } from "../dom.js";
import { forest } from "./forest.js";
import { count, ms, percent, signed, us } from "./format.js";
import { dscpName, markText, tosText } from "./marks.js";

const VERDICTS = {
  no_measurable_difference: () => "= no measurable difference",
  too_few: () => "? too few answers",
  faster: ({ by_us }) => `▼ faster by ${ms(by_us / 1_000)}`,
  slower: ({ by_us }) => `▲ slower by ${ms(by_us / 1_000)}`,
  more_loss: ({ by }) => `▲ loses ${percent(by)} more`,
  less_loss: ({ by }) => `▼ loses ${percent(by)} less`,
  dead: () => "✕ dead: nothing arrives",
};

const verdictText = (it) => VERDICTS[it.verdict]?.(it) ?? foreign(it.verdict);

const median = (values) => values.toSorted((a, b) => a - b)[(values.length - 1) >> 1] ?? null;

/** A place where marks change, as a sentence. */
function remarkingText({ from_hop, to_hop, dscp, ecn, pairs }) {
  const what = [];
  if (dscp) what.push(dscp.length > 0 ? dscp.map((name) => foreign(name)).join(" or ") : "some code points re-marked");
  for (const { kind, from, to } of ecn) {
    what.push({ bleached: `${from} bleached`, congestion_marked: `${from} marked ce`, changed: `${from} changed to ${to}` }[kind] ?? kind);
  }
  const seen = pairs.filter(([before, after]) => before !== after).map(([before, after]) => `${tosText(before)} → ${tosText(after)}`);
  return `Between hop ${from_hop} and hop ${to_hop}: ${what.join(", ")} (${seen.join(", ")}).`;
}

function deadText({ mark, lost, beside_answered }) {
  const advice = mark.ecn === "not-ect" ? `send with DSCP 0 what has ${foreign(mark.dscp)} (RFC 8835 §4.2)` : "send without ECN";
  return `${foreign(markText(mark))} does not arrive: ${lost} of ${lost} probes are lost, while best effort beside it was answered ${beside_answered} times. Better ${advice}.`;
}

const HEADS = ["Mark", "Sent", "Loss", "Median", "p95", "Longer by", "Verdict"];

function view() {
  const marks = new Map();
  let [block, blocks, facts] = [0, null, []];
  const progress = h("p", { class: "muted numbers" });
  const plot = h("div", { class: "wide" });
  const body = h("tbody");
  const table = h("table", { class: "marks" }, h("caption", { class: "unseen" }, "Marks compared with best effort"), h("thead", null, h("tr", null, ...HEADS.map((head, at) => h("th", { scope: "col", class: at > 0 && at < 6 ? "number" : null }, head)))), body);
  const list = h("ul");
  const element = h("div", null, progress, plot, h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "The marks compared" }, table), list);

  /** While it runs there are probes only; the server compares when all are in. */
  function probed({ mark, block: at, rtt_us }) {
    const name = markText(mark);
    const it = marks.get(name) ?? { mark, sent: 0, lost: 0, rtts: [] };
    it.sent += 1;
    if (rtt_us == null) it.lost += 1;
    else it.rtts.push(rtt_us);
    marks.set(name, it);
    block = Math.max(block, at + 1);
  }

  function row(it) {
    const { rtt, comparison } = it.compared ?? {};
    const decided = rtt ? rtt.received + rtt.lost : it.sent;
    const lost = rtt ? rtt.lost : it.lost;
    const difference = comparison?.rtt_difference_us;
    const longer = difference ? `${signed(us, difference.value)} (${signed(us, difference.low)} to ${signed(us, difference.high)})` : "–";
    const verdict = !it.compared ? "…" : comparison ? comparison.verdicts.map(verdictText).join(", ") : "what the others are compared with";
    const arrived = it.compared?.arrived == null ? "" : ` (${count(it.compared.arrived)} arrived)`;
    const cells = [`${count(rtt?.sent ?? it.sent)}${arrived}`, percent(decided ? lost / decided : null), us(rtt ? rtt.median_us : median(it.rtts)), us(rtt?.p95_us), longer];
    return h("tr", null, h("th", { scope: "row" }, foreign(markText(it.mark))), ...cells.map((text) => h("td", { class: "number" }, text)), h("td", null, verdict));
  }

  function draw() {
    const all = [...marks.values()];
    body.replaceChildren(...all.map(row));
    table.hidden = all.length === 0;
    const isDone = all.some((it) => it.compared);
    put(progress, all.length === 0 ? "Waiting for the first answers…" : isDone ? "" : `${block}${blocks ? ` of ${blocks}` : ""} probes of each mark`);
    progress.hidden = isDone;
    const compared = all.filter((it) => it.compared?.comparison);
    plot.replaceChildren(...(compared.length > 0 ? [forest(compared.map(({ mark, compared: { comparison } }) => ({ name: foreign(markText(mark)), estimate: comparison.rtt_difference_us, verdict: comparison.verdicts.map(verdictText).join(", ") })))] : []));
    list.replaceChildren(...facts.map((text) => h("li", null, text)));
  }

  let drawing = null;
  /** Probes come by the hundred. */
  function soon() {
    drawing ??= setTimeout(() => {
      drawing = null;
      draw();
    }, 200);
  }

  const compared = (it) => marks.set(markText(it.mark), { ...(marks.get(markText(it.mark)) ?? { mark: it.mark, sent: 0, lost: 0, rtts: [] }), compared: it });

  return {
    element,
    clear(config) {
      marks.clear();
      [block, blocks, facts] = [0, config.count ?? null, []];
      draw();
    },
    event(it) {
      if (it.event === "probed") probed(it);
      if (it.event === "compared") compared(it);
      if (it.event === "dead") facts.push(deadText(it));
      if (it.event === "fell_back") facts.push(`${foreign(it.class)} has gone from ${foreign(it.from)} back to DSCP 0.`);
      if (it.event === "remarked") facts.push(remarkingText(it));
      soon();
    },
    report(it) {
      marks.clear();
      it.marks.forEach(compared);
      facts = it.dead.map(deadText);
      facts.push(...it.fallen_back.map((done) => `${foreign(done.class)} has gone from ${foreign(done.from)} back to DSCP 0.`));
      facts.push(...it.observation.remarkings.map(remarkingText), ...unseen(it.observation));
      const { confidence } = it.config.significance;
      facts.push(`With ${percent(confidence)} confidence for all intervals of the run together; ${count(it.config.count)} probes of each mark.`);
      draw();
    },
  };
}

function unseen({ on_the_way, at_the_peer, remarkings }) {
  const out = [];
  const isObserved = [on_the_way, at_the_peer].includes("observed");
  if (isObserved && remarkings.length === 0) out.push("Marks are not changed, as far as it was seen.");
  for (const [place, visibility] of [["on the way", on_the_way], ["at the client", at_the_peer]]) {
    if (visibility?.unavailable) out.push(`Not seen: what happens to marks ${place} (${foreign(visibility.unavailable.reason)}).`);
  }
  return out;
}

export const qos = {
  kind: "qos",
  title: "QoS marks",
  about: `Whether the path treats marked packets otherwise than best effort (${dscpName(0)}).`,
  settings: [
    { name: "marks", label: "Marks", type: "words", value: "CS0, EF, AF41, LE, ect0, ect1" },
    { name: "count", label: "Probes of each mark", type: "number", min: 1, max: 1_000, placeholder: "50" },
  ],
  view,
};
