// The pickers of venue, symbol and size, and the page's URL, which says the same.

/** Sizes to choose from; the API has every one that divides a day. */
export const SIZES = ["1m", "3m", "5m", "15m", "30m", "1h", "4h", "1d"];

export class Pickers {
  /** `onChange` is called with the choice {venue, symbol, size}. */
  constructor(onChange) {
    [this.venue, this.symbol, this.size] = ["venue", "symbol", "size"].map((id) => document.getElementById(id));
    this.markets = [];
    this.venue.addEventListener("change", () => {
      this.fillSymbols(this.symbol.value);
      this.changed(onChange);
    });
    for (const one of [this.symbol, this.size]) one.addEventListener("change", () => this.changed(onChange));
    this.venue.form.addEventListener("submit", (event) => event.preventDefault());
  }

  get choice() {
    return { venue: this.venue.value, symbol: this.symbol.value, size: this.size.value };
  }

  /** Offer these markets; keep what is chosen, or take what the URL says. */
  offer(markets) {
    const key = (rows) => rows.map((row) => `${row.venue} ${row.symbol}`).join();
    if (key(markets) === key(this.markets)) return;
    const url = new URLSearchParams(location.search);
    this.markets = markets;
    fill(this.venue, [...new Set(markets.map((row) => row.venue))], this.venue.value || url.get("venue"));
    this.fillSymbols(this.symbol.value || url.get("symbol"));
    if (!this.size.value) fill(this.size, SIZES, url.get("size"));
  }

  fillSymbols(wanted) {
    const symbols = this.markets.filter((row) => row.venue === this.venue.value).map((row) => row.symbol);
    const base = (wanted ?? "").split("/")[0];
    fill(this.symbol, symbols, symbols.includes(wanted) ? wanted : symbols.find((one) => one.startsWith(`${base}/`)));
  }

  changed(onChange) {
    history.replaceState(null, "", `?${new URLSearchParams(this.choice)}`);
    onChange(this.choice);
  }
}

function fill(select, values, wanted) {
  select.replaceChildren(...values.map((value) => new Option(value, value)));
  select.value = values.includes(wanted) ? wanted : values[0] ?? "";
}
