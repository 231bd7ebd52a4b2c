// What a bar's certificate proves, as one word. The heights of the strip tell the words apart without colour.

export const STATES = {
  complete: { color: "#2f9e6e", height: 0.35, words: "complete" },
  repaired: { color: "#3b82f6", height: 0.55, words: "complete, with repaired trades" },
  open: { color: "#e5484d", height: 1, words: "open: trades are missing and will be asked for" },
  unavailable: { color: "#a855f7", height: 0.8, words: "unavailable: the venue did not have some trades" },
  pending: { color: "#94a3b8", height: 0.2, words: "not proved yet: the ledger does not know trades on both sides" },
};

/** Return the state of a certificate, a key of STATES. */
export function stateOf(row) {
  if (row.open > 0) return "open";
  if (row.unavailable > 0) return "unavailable";
  if (!row.complete) return "pending";
  return row.repaired > 0 ? "repaired" : "complete";
}

/** Show in the legend how many bars are in each state. */
export function showCounts(legend, states) {
  const counts = {};
  for (const row of states) counts[stateOf(row)] = (counts[stateOf(row)] ?? 0) + 1;
  for (const item of legend.children) {
    const count = String(counts[item.dataset.state] ?? 0);
    const shown = item.querySelector("b");
    if (shown.textContent !== count) shown.textContent = count;
  }
}
