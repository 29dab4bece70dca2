// How many hops it is to the client.

import { h, put } from "../dom.js";
import { clock, us } from "./format.js";

const hops = (number) => (number === 1 ? "1 hop" : `${number} hops`);

const place = (number) => (number == null ? "out of reach" : hops(number));

/** How long the way back is, if the client sends with the next common TTL above what arrives. */
function wayBack(left) {
  const initial = [64, 128, 255].find((it) => left <= it);
  return `Answers arrive with TTL ${left}: ${hops(initial - left + 1)} back, if they began with ${initial}.`;
}

function view() {
  const title = h("p", { class: "result" });
  const more = h("p");
  const list = h("ul");
  const element = h("div", null, title, more, list);

  function found(reach) {
    put(title, reach ? `${hops(reach.ttl)} to the client: TTL ${reach.ttl} is the smallest that reaches it.` : "No TTL reaches the client.");
    put(more, reach ? `Round trip ${us(reach.rtt_us)}. ${reach.reply_ttl == null ? "" : wayBack(reach.reply_ttl)}` : "");
  }

  const say = (text) => list.append(h("li", null, text));

  function changed({ at, from, to }) {
    const when = at?.secs_since_epoch == null ? "" : `${clock(at.secs_since_epoch * 1_000)}: `;
    say(`${when}it was ${place(from)}, and is ${place(to)}.`);
  }

  return {
    element,
    clear() {
      put(title, "Waiting for the first answer…");
      put(more, "");
      list.replaceChildren();
    },
    event(it) {
      if (it.event === "found") found(it.reach);
      if (it.event === "changed") changed(it);
      if (it.event === "way_back_changed") say(`The way back has changed: answers arrived with TTL ${it.from ?? "–"}, and do with ${it.to ?? "–"}.`);
    },
    report(it) {
      list.replaceChildren();
      found(it.reach);
      it.changes.forEach(changed);
    },
  };
}

export const ttl = {
  kind: "ttl",
  title: "Smallest TTL",
  about: "How many hops away the client is. It needs no ICMP, so firewalls do not matter.",
  settings: [{ name: "max_ttl", label: "Largest TTL", type: "number", min: 1, max: 255, placeholder: "30" }],
  view,
};
