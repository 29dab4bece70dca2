// Numbers as people read them, with their units. What is not known is a dash.

export const NONE = "–";

const number = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });

/** Milliseconds, with as many digits as mean something. */
export function ms(value) {
  if (value == null) return NONE;
  const size = Math.abs(value);
  return `${number(value, size < 1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0)} ms`;
}

export const us = (value) => (value == null ? NONE : ms(value / 1000));

/** A share, 0 to 1. */
export function percent(share) {
  if (share == null) return NONE;
  const value = share * 100;
  return `${number(value, Math.abs(value) < 1 ? 2 : 1)} %`;
}

export const bytes = (value) => (value == null ? NONE : `${number(value, 0)} B`);

export const count = (value) => (value == null ? NONE : number(value, 0));

const RATES = [
  [1e9, "Gbit/s"],
  [1e6, "Mbit/s"],
  [1e3, "kbit/s"],
];

/** Bits per second. */
export function rate(bits) {
  if (bits == null) return NONE;
  const [size, unit] = RATES.find(([least]) => Math.abs(bits) >= least) ?? [1, "bit/s"];
  const value = bits / size;
  return `${number(value, Math.abs(value) < 10 ? 1 : 0)} ${unit}`;
}

/** With its sign, for differences. */
export function signed(format, value) {
  if (value == null) return NONE;
  const text = format(Math.abs(value));
  return value > 0 ? `+${text}` : value < 0 ? `−${text}` : text;
}

/** Seconds, as one says them. */
export function span(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  const parts = [
    [Math.floor(whole / 86_400), "d"],
    [Math.floor(whole / 3_600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([value]) => value > 0)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(" ");
}

/** Seconds since 1970, from a string of the server; NaN for what is none. */
export const seconds = (at) => Date.parse(at) / 1000;

/** The time of day, as it is where the dashboard is. */
export function clock(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? NONE : date.toLocaleTimeString("en-GB");
}

/** The time of day, with the day where that is not today. */
export function moment(at) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return NONE;
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock(at) : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock(at)}`;
}

/** For `title`, where somebody wants to know it exactly. */
export function exactly(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}
