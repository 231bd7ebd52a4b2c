// One market on the chart: its bars, live, and their certificates. Made anew for each choice of the pickers.

import { get } from "./api.js";
import { Feed } from "./feed.js";
import { showCounts, stateOf } from "./states.js";
import { plain, showCertificate, showMoves, showSpread } from "./panels.js";
import { iso, lengthOf, seconds, shown } from "./times.js";

const CERTIFY_MS = 2_500; // between two looks at the newest certificates
const CERTIFY_ALL_EVERY = 8; // such looks; then all that the chart shows
const PANELS_MS = 5_000;
const AGAIN = 10; // newest bars that are asked for again
const MOST_CERTIFIED = 31 * 86_400 - 1; // s for which the API certifies at once

export class Market {
  /** `page` has the chart, the elements, and what to call: news(), problem(words), connected(), kafka(), showsBars(). */
  constructor(page, choice) {
    this.page = page;
    this.choice = choice;
    this.length = lengthOf(choice.size);
    this.certificates = new Map();
    this.chosen = null;
    this.abort = new AbortController();
    this.feeds = [];
    this.looks = 0;
    this.troubles = new Map();
  }

  get market() {
    return { venue: this.choice.venue, symbol: this.choice.symbol };
  }

  get isBeginning() {
    return !this.feeds.length || this.feeds.some((feed) => !feed.isOpen && !feed.wasClosed);
  }

  get isOpen() {
    return this.feeds.every((feed) => feed.isOpen);
  }

  /** Show the bars of now and follow them. */
  async start() {
    await this.load();
    if (this.stopped) return;
    const { chart, connected } = this.page;
    const problem = (words) => this.trouble("stream", words);
    const from = () => chart.times.length ? { from: iso(chart.times.at(-Math.min(AGAIN, chart.times.length))) } : {};
    this.feeds = [
      new Feed(() => ({ ...this.market, kind: "bars", size: this.choice.size, ...from() }), (rows) => this.took(rows), problem, connected),
      new Feed(() => this.market, (rows) => this.traded(rows), problem, connected),
    ];
    this.repeat("certificates", () => this.certify(), CERTIFY_MS);
    this.repeat("panels", () => this.panels(), PANELS_MS);
  }

  stop() {
    this.stopped = true;
    this.abort.abort();
    for (const feed of this.feeds) feed.stop();
  }

  ask(path, query) {
    return get(path, query, this.abort.signal);
  }

  async load() {
    const answer = await this.ask("/v1/bars", { ...this.market, size: this.choice.size, limit: 1000 });
    await this.page.ready;
    if (this.stopped) return;
    const { chart, elements } = this.page;
    chart.setMoves([]);
    chart.setStrip([]);
    chart.setBars(answer.rows);
    showCounts(elements.legend, []);
    this.choose(null);
    elements.price.textContent = answer.rows.at(-1)?.close ?? "–";
    this.page.showsBars(answer.rows.length);
  }

  /** Do something again and again; a failure is told, and tried again. */
  async repeat(name, work, pause) {
    while (!this.stopped) {
      try {
        await work();
        this.trouble(name, null);
      } catch (error) {
        this.trouble(name, error.message);
      }
      await new Promise((done) => setTimeout(done, pause));
    }
  }

  /** Tell what does not work; null once it works again. */
  trouble(name, words) {
    if (this.stopped) return;
    if (words === null) this.troubles.delete(name);
    else this.troubles.set(name, words);
    this.page.problem([...this.troubles.values()][0] ?? null);
  }

  took(rows) {
    this.page.news();
    this.trouble("stream", null);
    this.page.chart.putBars(rows);
    this.page.showsBars(this.page.chart.times.length);
    if (rows.some((row) => seconds(row.bar_start) === this.chosen)) this.choose(this.chosen);
  }

  traded(rows) {
    this.page.news();
    const newest = rows.reduce((best, row) => (row.trade_id > best.trade_id ? row : best));
    if (newest.trade_id >= (this.tradeId ?? 0)) {
      this.tradeId = newest.trade_id;
      this.page.elements.price.textContent = plain(newest.price);
    }
  }

  /** Look at the newest certificates and those of open bars; now and then at all. */
  async certify() {
    const { chart, elements } = this.page;
    if (!chart.times.length) return;
    const all = this.looks++ % CERTIFY_ALL_EVERY === 0;
    const first = Math.max(chart.times[0], chart.times.at(-1) - MOST_CERTIFIED + this.length);
    const open = [...this.certificates].filter(([, row]) => row.open > 0).map(([time]) => time);
    const start = all ? first : Math.max(first, Math.min(...open, chart.times.at(-Math.min(AGAIN, chart.times.length))));
    const answer = await this.ask("/v1/completeness", { ...this.market, size: this.choice.size, start: iso(start), limit: 10_000 });
    if (this.stopped) return;
    const changed = answer.rows.map((row) => [seconds(row.bar_start), row]).filter(([time, row]) => this.put(time, row));
    const rows = [...this.certificates.values()].sort((a, b) => seconds(a.bar_start) - seconds(b.bar_start));
    chart.setStrip(rows);
    showCounts(elements.legend, rows);
    const older = changed.map(([time]) => time).filter((time) => time < chart.times.at(-1));
    if (older.length && this.looks > 1) await this.reload(Math.min(...older));
    if (changed.some(([time]) => time === this.chosen)) await this.choose(this.chosen);
  }

  /** Keep a certificate; return whether its state is another one than before. */
  put(time, row) {
    const before = this.certificates.get(time);
    this.certificates.set(time, row);
    return !before || stateOf(before) !== stateOf(row);
  }

  /** Ask for the bars from a time on again: a repair has changed them. */
  async reload(start) {
    const answer = await this.ask("/v1/bars", { ...this.market, size: this.choice.size, start: iso(start), limit: 1000 });
    if (!this.stopped) this.page.chart.putBars(answer.rows);
  }

  async panels() {
    const { chart, elements } = this.page;
    const newest = chart.times.at(-1) ?? Date.now() / 1000;
    const since = Math.max(chart.times[0] ?? newest, newest - MOST_CERTIFIED + this.length);
    const [prices, spreads, moves] = await Promise.all([
      this.ask("/v1/price", { symbol: this.choice.symbol }),
      this.ask("/v1/spreads", { symbol: this.choice.symbol, start: iso(newest - 7200), limit: 1000 }),
      this.ask("/v1/moves", { ...this.market, start: iso(since), limit: 1000 }),
    ]);
    if (this.stopped) return;
    this.page.kafka(prices.connected, prices.reason);
    showSpread(elements.spread, prices.rows, spreads.rows);
    showMoves(elements.moves, moves.rows);
    chart.setMoves(moves.rows.map((row) => [Math.floor(seconds(row.bar_start) / this.length) * this.length, row]));
  }

  /** Show the certificate of a bar; null for none. */
  choose(time) {
    return this.certificate(time).then(() => this.trouble("bar", null), (error) => this.trouble("bar", error.message));
  }

  async certificate(time) {
    const { chart, elements } = this.page;
    this.chosen = time;
    chart.choose(time);
    this.tellChosen();
    if (time === null) {
      showCertificate(elements.certificate, null);
      return;
    }
    const range = { ...this.market, start: iso(time), end: iso(time + this.length) };
    const [proof, bars] = await Promise.all([
      this.ask("/v1/completeness", range), this.ask("/v1/bars", { ...range, size: this.choice.size }),
    ]);
    if (this.stopped || this.chosen !== time) return;
    const table = { name: bars.table, version: bars.version };
    showCertificate(elements.certificate, time, proof.rows[0], proof.proof, bars.rows[0], table);
  }

  /** Tell the chart's element, for those who do not see it, which bar is chosen. */
  tellChosen() {
    const { chart, elements } = this.page;
    const bar = chart.bars.get(this.chosen);
    const row = this.certificates.get(this.chosen);
    const words = bar ? `${shown(this.chosen)}, close ${bar.close}, ${row ? stateOf(row) : "no certificate yet"}` : "no bar chosen";
    elements.chart.setAttribute("aria-valuemax", String(Math.max(0, chart.times.length - 1)));
    elements.chart.setAttribute("aria-valuenow", String(Math.max(0, chart.times.indexOf(this.chosen))));
    elements.chart.setAttribute("aria-valuetext", words);
  }
}
