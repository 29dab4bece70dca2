// One chart over time. Lines differ by their dashes as well as by their colours.

import { h, keyed, put, svg } from "../dom.js";
import uPlot from "../vendor/uPlot.esm.js";
import { NONE, clock } from "./format.js";

const HEIGHT = 160;

/** Labels of changes that are closer than so many pixels stand one below the other. */
const LABEL = 22;
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

const DAY = 86_400;

/** Seconds from tick to tick. */
const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, DAY, 2 * DAY, 7 * DAY, 30 * DAY, 365 * DAY];

function tick(time, step) {
  const date = new Date(time * 1000);
  if (step >= DAY) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return step >= 60 ? clock(date).slice(0, 5) : clock(date);
}

/** Colours by the names of the style sheet. To ask for one while something is being drawn makes the browser lay out the page. */
const colours = new Map();

function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colours.get(name);
}

/** The style sheet has others now. */
export const forgetColours = () => colours.clear();

/**
 * `lines` have a `name` and a `value` of a sample; `format` writes a value with its unit; `range` is from where to where
 * the scale goes at least, and `steps` says that a value holds until the next.
 */
export function chart({ title, lines, format, range, steps = false, ticks = null }, { onselect }) {
  const holder = h("div", { class: "plot" });
  const legend = lines.map(({ name }, at) => ({ ...swatch(name, at), at }));
  const figure = h(
    "figure",
    { class: "chart" },
    h("figcaption", null, h("h3", null, title), h("dl", { class: "legend" }, ...legend.map(({ row }) => row))),
    holder,
  );

  let [view, marks, bands] = [[0, 1], [], []];
  const overlay = h("div", { class: "overlay", "aria-hidden": "true" });
  const bandBox = h("div");
  const markBox = h("div");
  overlay.append(bandBox, markBox);

  const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { stroke: () => colour("--grid"), width: 1, size: 4 }, font: "12px system-ui, sans-serif" };
  const plot = new uPlot(
    {
      width: 300,
      height: HEIGHT,
      legend: { show: false },
      scales: { x: { range: () => view }, y: { range: (_, low, high) => scale(range, low, high) } },
      cursor: {
        sync: { key: "client" },
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => null },
        points: { size: 6 },
      },
      series: [{}, ...lines.map((_, at) => line(at, steps))],
      axes: [
        { ...axis, size: 30, space: 80, incrs: TICKS, values: (_, times, __, ___, step) => times.map((time) => tick(time, step)) },
        { ...axis, size: 78, values: (_, values) => values.map((value) => format(value)), ...(ticks && { splits: (u) => ticks(u.data.slice(1)) }) },
      ],
      hooks: { setCursor: [values], setSelect: [selected], draw: [place] },
    },
    [[], ...lines.map(() => [])],
    holder,
  );
  plot.over.append(overlay);
  const resizing = new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width > 0) plot.setSize({ width: Math.floor(contentRect.width), height: HEIGHT });
  });
  resizing.observe(holder);

  /** Under the cursor, or else the newest. */
  function values() {
    const at = plot.cursor.idx ?? plot.data[0].length - 1;
    for (const { value, at: column } of legend) {
      const it = plot.data[column + 1]?.[at];
      put(value, it == null ? NONE : format(it));
    }
  }

  function selected() {
    const { left, width } = plot.select;
    if (width < 3) return;
    const [from, to] = [left, left + width].map((place) => plot.posToVal(place, "x"));
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    onselect({ from, to });
  }

  function place() {
    const width = plot.over.clientWidth;
    const at = (time) => plot.valToPos(time, "x");
    const seen = marks.filter(({ time }) => time >= view[0] && time <= view[1]);
    let [before, level] = [-Infinity, 0];
    for (const it of seen) {
      it.level = level = at(it.time) - before < LABEL ? (level + 1) % 4 : 0;
      before = at(it.time);
    }
    keyed(markBox, seen, ({ key }) => key, ({ label }) => h("div", { class: "change" }, h("span", null, label)), (element, { time, label, level }) => {
      element.style.left = `${at(time)}px`;
      element.classList.toggle("last", at(time) > width - LABEL);
      element.firstChild.style.top = `${level * 1.1}rem`;
      put(element.firstChild, label);
    });
    const shown = bands.filter(({ from, to }) => to >= view[0] && from <= view[1]);
    keyed(bandBox, shown, ({ name }) => name, ({ name, label }) => h("div", { class: `band ${name}` }, h("span", null, label)), (element, { from, to }) => {
      const [left, right] = [Math.max(0, at(from)), Math.min(width, at(to))];
      element.style.left = `${left}px`;
      element.style.width = `${Math.max(1, right - left)}px`;
    });
  }

  return {
    element: figure,
    draw(data, range, changes, windows) {
      [view, marks, bands] = [range, changes, windows];
      plot.setData(data);
      values();
    },
    redraw: () => plot.redraw(),
    values: lines.map(({ value }) => value),
    destroy() {
      resizing.disconnect();
      plot.destroy();
    },
  };
}

function line(at, steps) {
  const stroke = () => colour(`--series-${at + 1}`);
  return { stroke, width: 2, dash: DASHES[at], ...(steps && { paths: uPlot.paths.stepped({ align: 1 }) }), points: { size: 4 } };
}

function swatch(name, at) {
  const stroke = svg("line", { x1: 0, y1: 5, x2: 26, y2: 5, class: `series-${at + 1}`, "stroke-dasharray": DASHES[at].join(" ") || null });
  const value = h("dd", { class: "numbers" });
  const picture = svg("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" }, stroke);
  return { value, row: h("div", null, h("dt", null, picture, name), value) };
}

function scale({ low, high, room = 0 }, least, most) {
  const [from, to] = [Math.min(low ?? least ?? 0, least ?? low ?? 0), Math.max(high ?? most ?? 1, most ?? high ?? 1)];
  return [from - room, to === high ? to + room : to + room + (to - from) * 0.08];
}
