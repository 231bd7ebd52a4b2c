// The chart: candles and volume, and below them a strip that tells what the trade ids of each bar prove.

import {
  CandlestickSeries, CrosshairMode, HistogramSeries, createChart, createSeriesMarkers,
} from "./vendor/lightweight-charts.js";
import { STATES, stateOf } from "./states.js";
import { seconds } from "./times.js";
import { isDark } from "./theme.js";

const UP = "#26a69a";
const DOWN = "#ef5350";
const STRIP_HEIGHT = 34; // px
const BAR_WIDTH = 8; // px of a bar at first
const FEWEST = 40; // bars for which there is room at first
const NOTHING = { lastValueVisible: false, priceLineVisible: false };

export class Chart {
  /** `onClick` gets the time of a bar that was clicked, in seconds. */
  constructor(element, onClick) {
    this.element = element;
    this.bars = new Map();
    this.times = [];
    this.chosen = null;
    this.moves = [];
    this.chart = createChart(element, {
      autoSize: true,
      crosshair: { mode: CrosshairMode.Normal },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 3 },
      layout: { attributionLogo: false, panes: { enableResize: false } }, // the link stands below the page
    });
    this.candles = this.chart.addSeries(CandlestickSeries, {
      upColor: UP, downColor: DOWN, wickUpColor: UP, wickDownColor: DOWN, borderVisible: false,
    });
    this.candles.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.26 } });
    this.volume = this.chart.addSeries(HistogramSeries, { ...NOTHING, priceFormat: { type: "volume" }, priceScaleId: "volume" });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    this.strip = this.chart.addSeries(HistogramSeries, {
      ...NOTHING,
      priceFormat: { type: "custom", formatter: () => "", minMove: 0.05 },
      autoscaleInfoProvider: () => ({ priceRange: { minValue: 0, maxValue: 1 } }),
    }, 1);
    this.strip.priceScale().applyOptions({ scaleMargins: { top: 0, bottom: 0 } });
    this.chart.panes()[1].setHeight(STRIP_HEIGHT);
    this.markers = createSeriesMarkers(this.candles, []);
    this.chart.subscribeClick((event) => event.time !== undefined && onClick(event.time));
    this.paint();
  }

  /** Take the colours of the theme. */
  paint() {
    const [text, line, background] = isDark() ? ["#c6d0da", "#29313b", "#12161b"] : ["#33404d", "#e6eaee", "#ffffff"];
    this.chart.applyOptions({
      layout: { background: { color: background }, textColor: text, panes: { separatorColor: line } },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      rightPriceScale: { borderColor: line },
      timeScale: { borderColor: line },
    });
  }

  /** Show these bars and no others, the newest of them on the right. */
  setBars(rows) {
    this.bars = new Map(rows.map((row) => [seconds(row.bar_start), row]));
    this.order();
    const digits = Math.min(8, Math.max(2, ...rows.slice(-100).map((row) => (row.close.split(".")[1] ?? "").length)));
    this.candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
    this.draw();
    const room = Math.floor(this.element.clientWidth / BAR_WIDTH);
    const shown = Math.min(room, Math.max(FEWEST, this.times.length));
    this.chart.timeScale().setVisibleLogicalRange({ from: this.times.length - shown, to: this.times.length + 3 });
  }

  /** Add bars, or change them. */
  putBars(rows) {
    const newest = this.times.at(-1) ?? 0;
    for (const row of rows) this.bars.set(seconds(row.bar_start), row);
    this.order();
    if (rows.some((row) => seconds(row.bar_start) < newest)) {
      this.draw();
      return;
    }
    for (const row of rows) {
      this.candles.update(candle(row));
      this.volume.update(volume(row));
    }
  }

  order() {
    this.times = [...this.bars.keys()].sort((a, b) => a - b);
  }

  draw() {
    const rows = this.times.map((time) => this.bars.get(time));
    this.candles.setData(rows.map(candle));
    this.volume.setData(rows.map(volume));
  }

  /** Show the certificates of bars in the strip. */
  setStrip(certificates) {
    this.strip.setData(certificates.map((row) => {
      const { color, height } = STATES[stateOf(row)];
      return { time: seconds(row.bar_start), value: height, color };
    }));
  }

  /** Mark moves: pairs of a bar's time and the move. */
  setMoves(moves) {
    this.moves = moves;
    this.mark();
  }

  /** Mark a bar as chosen and bring it into sight; null marks none. */
  choose(time) {
    this.chosen = time;
    this.mark();
    const bar = this.bars.get(time);
    if (!bar) {
      this.chart.clearCrosshairPosition();
      return;
    }
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    const at = this.times.indexOf(time);
    if (range && (at < range.from || at > range.to)) {
      const half = (range.to - range.from) / 2;
      scale.setVisibleLogicalRange({ from: at - half, to: at + half });
    }
    this.chart.setCrosshairPosition(Number(bar.close), time, this.candles);
  }

  mark() {
    const marks = this.moves.filter(([time]) => this.bars.has(time)).map(([time, move]) => ({
      time,
      position: move.direction === "up" ? "belowBar" : "aboveBar",
      shape: move.direction === "up" ? "arrowUp" : "arrowDown",
      color: move.direction === "up" ? UP : DOWN,
    }));
    if (this.bars.has(this.chosen)) {
      marks.push({ time: this.chosen, position: "aboveBar", shape: "circle", color: "#f2b90f" });
    }
    this.markers.setMarkers(marks.sort((a, b) => a.time - b.time));
  }
}

function candle(row) {
  const [open, high, low, close] = [row.open, row.high, row.low, row.close].map(Number);
  return { time: seconds(row.bar_start), open, high, low, close };
}

function volume(row) {
  const color = Number(row.close) >= Number(row.open) ? `${UP}66` : `${DOWN}66`;
  return { time: seconds(row.bar_start), value: Number(row.volume), color };
}
