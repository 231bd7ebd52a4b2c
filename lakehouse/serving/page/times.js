// Times as the API writes them, as the chart counts them, and as people read them. All are UTC.

/** Return seconds since the epoch of an ISO time. */
export const seconds = (text) => Date.parse(text) / 1000;

/** Return the ISO time of seconds since the epoch. */
export const iso = (time) => new Date(time * 1000).toISOString();

/** Return a time as people read it, `2026-11-01 12:05`; with seconds if wanted. */
export const shown = (time, withSeconds = false) => iso(time).slice(0, withSeconds ? 19 : 16).replace("T", " ");

const LENGTHS = { m: 60, h: 3600, d: 86_400 };

/** Return the seconds of a bar size such as 5m, 4h or 1d. */
export const lengthOf = (size) => Number(size.slice(0, -1)) * LENGTHS[size.slice(-1)];
