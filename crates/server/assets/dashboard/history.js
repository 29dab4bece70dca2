// The samples of one client: those that are recorded, and those that come.

import { api, clientPath, query } from "./api.js";
import { seconds } from "./format.js";
import { serverTime } from "./live.js";

/** More points than a chart has pixels help nobody. */
const POINTS = 2_000;

const iso = (time) => new Date(time * 1000).toISOString();

/** What is recorded between two times, in seconds since 1970. */
export async function samples(id, from, to, step, left) {
  const parameters = query({ from: iso(from), to: iso(to), step_s: step });
  const answer = await api(clientPath(id, `/samples${parameters}`), { left });
  return answer.samples.map((sample) => ({ ...sample, time: seconds(sample.at) })).filter(({ time }) => Number.isFinite(time));
}

export class History {
  #id;
  #left;
  /** The time of the client's end, if it has ended. */
  ended = null;
  /** The time of its beginning. */
  since = null;
  /** Either the newest so many seconds, or what is between two times. */
  view = { span: 300 };
  step = 1;
  samples = [];

  constructor(id, left) {
    [this.#id, this.#left] = [id, left];
  }

  get isLive() {
    return this.view.span != null && this.ended == null;
  }

  /** What is to be seen: `[from, to]`. */
  get range() {
    if (this.view.span == null) return [this.view.from, this.view.to];
    const to = this.ended ?? serverTime() / 1000;
    // What was before its beginning is not worth an empty chart.
    const life = Math.max(60, to - (this.since ?? to));
    return [to - Math.min(this.view.span, life), to];
  }

  /** Loads what is recorded of it; what has come meanwhile stays. */
  async load() {
    const [from, to] = this.range;
    const step = Math.max(1, Math.ceil((to - from) / POINTS));
    const view = this.view;
    const loaded = await samples(this.#id, from, to + 5, step, this.#left);
    if (view !== this.view) return;
    const newest = loaded.at(-1)?.time ?? -Infinity;
    this.samples = loaded.concat(this.isLive ? this.samples.filter(({ time }) => time > newest) : []);
    this.step = step;
  }

  /** The newest one. It may come twice, or late. */
  add(sample) {
    const time = seconds(sample.at);
    if (!this.isLive || !Number.isFinite(time) || time <= (this.samples.at(-1)?.time ?? 0)) return;
    this.samples.push({ ...sample, time });
    const oldest = this.range[0] - this.step;
    const drop = this.samples.findIndex((it) => it.time >= oldest);
    // One left of the edge, so that the line goes to the edge.
    if (drop > 1) this.samples.splice(0, drop - 1);
  }

  /** Times, and for each of the functions a column of its values; null where there is a hole. */
  columns(functions) {
    const times = [];
    const columns = functions.map(() => []);
    const hole = Math.max(3, this.step * 2.5);
    let before = null;
    for (const sample of this.samples) {
      if (before !== null && sample.time - before > hole) {
        times.push(before + this.step);
        for (const column of columns) column.push(null);
      }
      times.push(sample.time);
      functions.forEach((value, at) => columns[at].push(value(sample) ?? null));
      before = sample.time;
    }
    return [times, ...columns];
  }
}
