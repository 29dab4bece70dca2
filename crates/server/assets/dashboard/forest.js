// Intervals side by side around zero, as in the forest plots of other fields.

import { h, svg } from "../dom.js";
import { signed, us } from "./format.js";

const [WIDTH, LEFT, RIGHT, ROW, TOP, BOTTOM] = [640, 90, 20, 30, 8, 34];

/** Round numbers, so that about five of them fit between two values. */
function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((it) => it >= rough) ?? 10 * power;
  const out = [];
  for (let at = Math.ceil(low / step); at * step <= high; at += 1) out.push(at * step);
  return out;
}

/** `rows` have a `name`, an `estimate` `{value, low, high}` in microseconds or null, and a `verdict` in words. */
export function forest(rows) {
  const estimates = rows.map(({ estimate }) => estimate).filter(Boolean);
  // At least a millisecond either way: what is less matters to nobody.
  let [low, high] = [Math.min(-1_000, ...estimates.map((it) => it.low)), Math.max(1_000, ...estimates.map((it) => it.high))];
  [low, high] = [low - (high - low) * 0.05, high + (high - low) * 0.05];
  const x = (value) => LEFT + ((value - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
  const height = TOP + rows.length * ROW + BOTTOM;
  const foot = TOP + rows.length * ROW;

  const grid = ticks(low, high).flatMap((value) => [
    svg("line", { class: value === 0 ? "zero" : "tick", x1: x(value), x2: x(value), y1: TOP, y2: foot }),
    svg("text", { x: x(value), y: foot + 16, "text-anchor": "middle" }, signed(us, value)),
  ]);
  const lines = rows.flatMap(({ name, estimate }, at) => {
    const y = TOP + (at + 0.5) * ROW;
    const label = svg("text", { x: LEFT - 10, y: y + 4, "text-anchor": "end", class: "name" }, name);
    if (!estimate) return [label, svg("text", { x: x(0) + 8, y: y + 4 }, "no interval")];
    const [from, to, value] = [x(estimate.low), x(estimate.high), x(estimate.value)];
    const differs = estimate.low > 0 || estimate.high < 0;
    // Full where zero is outside the interval, open where it is inside.
    return [
      label,
      svg("path", { class: "interval", d: `M${from} ${y - 6}v12M${from} ${y}H${to}M${to} ${y - 6}v12` }),
      svg("circle", { class: differs ? "estimate differs" : "estimate", cx: value, cy: y, r: 6 }),
    ];
  });
  const said = rows.map(({ name, verdict }) => `${name}: ${verdict}`).join("; ");
  return h(
    "figure",
    { class: "forest" },
    svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": `Round trips compared with best effort. ${said}` }, ...grid, ...lines, svg("text", { x: x(0), y: foot + 31, "text-anchor": "middle" }, "← shorter round trips · longer →")),
  );
}
