// The page: pickers, chart, panels, and the state of the connection.

import { get } from "./api.js";
import { Market } from "./market.js";
import { Pickers } from "./pickers.js";
import { followTheme } from "./theme.js";

const STALE_MS = 20_000; // without a trade or a bar
const MARKETS_MS = 15_000; // between two looks at the list of markets
const NO_LIBRARY = "The chart library is missing on this server. `make install` fetches it from npm; then reload. "
  + "The API works without it.";

const names = ["chart", "legend", "price", "certificate", "spread", "moves", "notice", "connection", "simulated", "theme"];
const elements = Object.fromEntries(names.map((id) => [id, document.getElementById(id)]));
let market = null;
let lastNews = Date.now();
let kafka = { connected: true, reason: "" };
let isBroken = false;

const page = {
  elements,
  chart: null,
  ready: loadChart(), // beside the first requests, which need no chart
  news: () => {
    lastNews = Date.now();
    showConnection();
  },
  kafka: (connected, reason) => {
    kafka = { connected, reason };
    showConnection();
  },
  connected: () => showConnection(),
  problem: (words) => {
    if (isBroken) return;
    elements.notice.hidden = !words;
    if (words && elements.notice.textContent !== words) elements.notice.textContent = words;
  },
  showsBars: (count) => {
    elements.chart.setAttribute("aria-label", `Bars of ${market.choice.venue} ${market.choice.symbol}, ${market.choice.size}`);
    elements.chart.dataset.bars = String(count);
    if (count && !performance.getEntriesByName("first-candles").length) {
      requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("first-candles")));
    }
  },
};

/** Show whether what the page shows is of now: live, reconnecting, or stale. */
function showConnection() {
  const [state, words] = !market || market.isBeginning ? ["connecting", "connecting"]
    : !market.isOpen ? ["reconnecting", "reconnecting"]
    : !kafka.connected ? ["stale", "stale: Kafka does not answer"]
    : Date.now() - lastNews >= STALE_MS ? ["stale", "stale: nothing new comes"]
    : ["live", "live"];
  elements.connection.dataset.state = state;
  elements.connection.title = kafka.reason;
  if (elements.connection.textContent !== words) elements.connection.textContent = words;
}

async function show(choice) {
  market?.stop();
  market = new Market(page, choice);
  lastNews = Date.now();
  showConnection();
  document.title = `${choice.symbol} ${choice.venue} · Lakehouse`;
  const shown = market;
  while (market === shown) {
    try {
      await shown.start();
      return;
    } catch (error) {
      if (market !== shown) return;
      page.problem(error.message);
      await new Promise((done) => setTimeout(done, 2_000));
    }
  }
}

/** Let the arrow keys choose a bar. */
function onKey(event) {
  if (!market) return;
  const { times } = page.chart;
  const at = market.chosen === null ? times.length : times.indexOf(market.chosen);
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
  if (event.key === "Escape") choose(null);
  else if (event.key in steps && times.length) choose(times[Math.max(0, Math.min(times.length - 1, at + steps[event.key]))]);
  else return;
  event.preventDefault();
}

function choose(time) {
  market?.choose(time);
}

/** Look which markets there are, until the page is left: a lake that has just begun has none yet. */
async function followMarkets(pickers) {
  while (true) {
    try {
      const answer = await get("/v1/markets");
      elements.simulated.hidden = !answer.simulated;
      pickers.offer(answer.rows);
      if (!market && answer.rows.length) {
        page.problem(null);
        show(pickers.choice);
      } else if (!market) {
        page.problem("No market yet: the lake has no trades. This page looks again by itself.");
      }
    } catch (error) {
      if (!market) page.problem(error.message);
    }
    await new Promise((done) => setTimeout(done, market ? MARKETS_MS : 2_000));
  }
}

/** Make the chart. If its library is missing, say so, and never become ready. */
async function loadChart() {
  try {
    const { Chart } = await import("./chart.js");
    page.chart = new Chart(elements.chart, choose);
    elements.chart.addEventListener("keydown", onKey);
  } catch (error) {
    page.problem(error instanceof TypeError ? NO_LIBRARY : error.message);
    isBroken = true;
    await new Promise(() => {});
  }
}

followTheme(elements.theme, () => page.chart?.paint());
followMarkets(new Pickers(show));
setInterval(showConnection, 1_000);
