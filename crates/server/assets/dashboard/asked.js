// Options of datagrams as short texts, and what differs between two sets of them.

import { CLASSES, tosText } from "./marks.js";

const EMPTY = { ttl: null, df_bit: null, tos: null };

const FIELDS = [
  ["ttl", "TTL", (value) => String(value)],
  ["df_bit", "DF", (value) => String(Number(value))],
  ["tos", "DSCP", tosText],
];

const show = (format, value) => (value == null ? "unset" : format(value));

/** `TTL 10, DF 1, DSCP EF`; empty where nothing is set. */
function optionsText(options) {
  const set = FIELDS.filter(([field]) => options?.[field] != null);
  return set.map(([field, name, format]) => `${name} ${format(options[field])}`).join(", ");
}

/** The same of a session with its classes; empty where nothing is set. */
export function askedText(asked) {
  const parts = [optionsText(asked?.all)];
  for (const name of CLASSES) {
    const text = optionsText(asked?.classes?.[name]);
    if (text) parts.push(`${name.toUpperCase()}: ${text}`);
  }
  return parts.filter(Boolean).join(" · ");
}

/** `TTL unset → 10, DSCP CS0 → EF`. */
export function changeText(before, after) {
  const changed = FIELDS.filter(([field]) => (before?.[field] ?? null) !== (after?.[field] ?? null));
  const texts = changed.map(([field, name, format]) => `${name} ${show(format, before?.[field])} → ${show(format, after?.[field])}`);
  return texts.join(", ");
}

/** What one state of a session becomes in another: a `{class, before, after}` for each set that differs. */
export function differences(before, after) {
  const sets = [null, ...CLASSES].map((name) => {
    const of = (asked) => ({ ...EMPTY, ...(name ? asked?.classes?.[name] : asked?.all) });
    return { class: name, before: of(before), after: of(after) };
  });
  return sets.filter((set) => changeText(set.before, set.after));
}

/** What is in force for a class: its own, else the session's. */
export function effective(asked, name) {
  const own = asked?.classes?.[name] ?? {};
  const all = asked?.all ?? {};
  return Object.fromEntries(FIELDS.map(([field]) => [field, own[field] ?? all[field] ?? null]));
}
