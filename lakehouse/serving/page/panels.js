// The panels below the chart: the certificate of a bar, prices and spread of the venues, moves.

import { STATES, stateOf } from "./states.js";
import { seconds, shown } from "./times.js";

/** Make an element with attributes and children: texts or elements. Texts are never read as HTML. */
export function make(name, attributes = {}, ...children) {
  const element = name === "svg" || name === "polyline"
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Return a decimal without zeros at its end: venues write some, bars do not. */
export const plain = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

const hint = (text) => make("p", { class: "hint" }, text);

/** Show the certificate of a bar: its ids, its revision, and the versions of the tables that say so. */
export function showCertificate(panel, time, row, proof, bar, table) {
  if (!row) {
    panel.replaceChildren(hint(time === null ? "No bar is chosen." : "The ledger knows no ids of this bar."));
    return;
  }
  const state = stateOf(row);
  const lines = [
    ["Bar", `${shown(time)} UTC, ${row.venue} ${row.symbol}`],
    ["State", make("span", { class: "state", "data-state": state }, STATES[state].words)],
    ["Trade ids", row.first_trade_id === null ? "none" : `${row.first_trade_id} to ${row.last_trade_id}`],
    ["Present", `${row.present} of ${row.expected}`],
    ["Repaired", `${row.repaired}`],
    ["Open", `${row.open}`],
    ["Unavailable", `${row.unavailable}`],
  ];
  if (bar) {
    lines.push(
      ["Revision", bar.revision === null ? "none: rolled up from shorter bars" : `${bar.revision}`],
      ["Bar's prices", `open ${bar.open}, high ${bar.high}, low ${bar.low}, close ${bar.close}`],
      ["Volume", `${bar.volume} in ${bar.trades} trades`],
    );
  }
  lines.push(["Versions", [
    bar ? `${table.name} ${table.version}` : null, `${proof.ledger} ${proof.ledger_version}`, `${proof.trades} ${row.trades_version}`,
  ].filter(Boolean).join(", ")]);
  panel.replaceChildren(make("dl", {}, ...lines.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
}

/** Show each venue's latest price of a pair, and the newest spread with its course. */
export function showSpread(panel, prices, spreads) {
  const lowest = Math.min(...prices.map((one) => Number(one.price)));
  const rows = prices.map((one) => make("tr", {},
    make("td", {}, one.venue),
    make("td", { class: "number" }, plain(one.price)),
    make("td", { class: "number" }, ((Number(one.price) / lowest - 1) * 10_000).toFixed(1))));
  const table = make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Venue"), make("th", { scope: "col", class: "number" }, "Latest price"),
      make("th", { scope: "col", class: "number" }, "bp above lowest"))),
    make("tbody", {}, ...rows));
  const known = spreads.filter((row) => row.spread_bps !== null);
  const newest = known.at(-1);
  const words = newest
    ? `Spread at the end of ${shown(seconds(newest.bar_start)).slice(11)}: ${Number(newest.spread_bps).toFixed(2)} bp, `
      + `lowest ${newest.lowest_venue}, highest ${newest.highest_venue}.`
    : "No minute yet in which two venues traded this pair.";
  panel.replaceChildren(...(prices.length ? [table] : [hint("No price yet.")]), hint(words), ...(known.length > 1 ? [spark(known)] : []));
}

function spark(rows) {
  const values = rows.map((row) => Number(row.spread_bps));
  const highest = Math.max(...values, Number.EPSILON);
  const points = values.map((value, at) => `${((at / (values.length - 1)) * 300).toFixed(1)},${(46 - (value / highest) * 44).toFixed(1)}`);
  const label = `Spread of the last ${rows.length} minutes, ${Math.min(...values).toFixed(2)} to ${highest.toFixed(2)} bp`;
  return make("svg", { class: "spark", viewBox: "0 0 300 48", preserveAspectRatio: "none", role: "img", "aria-label": label },
    make("polyline", { points: points.join(" ") }));
}

/** Show the newest moves of a market. */
export function showMoves(panel, moves) {
  if (!moves.length) {
    panel.replaceChildren(hint("None in the time that the chart shows."));
    return;
  }
  const rows = moves.slice(-8).reverse().map((move) => make("tr", {},
    make("td", {}, shown(seconds(move.bar_start)).slice(5)),
    make("td", {}, move.direction),
    make("td", { class: "number" }, `${(Number(move.change) * 100).toFixed(2)} %`),
    make("td", { class: "number" }, `${move.from_price} → ${move.to_price}`)));
  panel.replaceChildren(make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Minute"), make("th", { scope: "col" }, "Way"),
      make("th", { scope: "col", class: "number" }, "Change"), make("th", { scope: "col", class: "number" }, "Price"))),
    make("tbody", {}, ...rows)));
}
