"""The arithmetic of the comparison: runs → medians, spreads, and ratios paired within a round. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple


@dataclass(frozen=True)
class Run:
    """One peer in one round. `trades` are distinct, `messages` include repeats; bytes and seconds."""

    round: int
    peer: str
    trades: int
    messages: int
    seconds: float
    cpu_seconds: float
    peak_rss: int
    silver_rows: int | None = None
    bar_trades: int | None = None
    error: str = ""  #: empty where it ended well

    @property
    def rate(self) -> float:
        """Trades per second."""
        return self.trades / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """CPU time per trade."""
        return self.cpu_seconds / self.trades * 1e6


class Spread(NamedTuple):
    """Median, minimum, maximum and count of some values."""

    median: float
    least: float
    greatest: float
    runs: int


class Row(NamedTuple):
    """One line of the table."""

    peer: str
    rate: Spread | None  #: trades/s; None if no run ended well
    ratio: Spread | None  #: rate of ours divided by the peer's, of each round
    cpu_microseconds: Spread | None
    peak_rss: int
    messages: int
    silver: str
    bars: str
    error: str


def spread(values: Iterable[float]) -> Spread | None:
    """Compute the spread of values; None without values."""
    found = sorted(values)
    return Spread(median(found), found[0], found[-1], len(found)) if found else None


def ratios(runs: Sequence[Run], peer: str, base: str = "ours") -> list[float]:
    """Rate of `base` ÷ rate of `peer` for each round in which both succeeded, in order."""
    rates = {(run.round, run.peer): run.rate for run in runs if not run.error}
    rounds = sorted({run.round for run in runs})
    return [rates[one, base] / rates[one, peer] for one in rounds if {(one, base), (one, peer)} <= rates.keys()]


def rows(runs: Sequence[Run]) -> list[Row]:
    """Summarize one line per peer, in the order in which they ran."""
    result = []
    for peer in dict.fromkeys(run.peer for run in runs):
        of_peer = [run for run in runs if run.peer == peer]
        good = [run for run in of_peer if not run.error]
        result.append(
            Row(
                peer,
                spread(run.rate for run in good),
                spread(ratios(runs, peer)) if peer != "ours" else None,
                spread(run.cpu_microseconds for run in good),
                max(run.peak_rss for run in of_peer),
                of_peer[0].messages,
                off([(run.silver_rows, run.trades) for run in good]),
                off([(run.bar_trades, run.trades) for run in good]),
                next((run.error for run in of_peer if run.error), ""),
            )
        )
    return result


def off(counts: list[tuple[int | None, int]]) -> str:
    """Difference of the counts from the truth: `exact`, `+1,234`, `-5 to +3`; `–` if there is nothing to count."""
    off = [found - true for found, true in counts if found is not None]
    if not off:
        return "–"
    if not any(off):
        return "exact"
    least, greatest = min(off), max(off)
    return f"{least:+,}" if least == greatest else f"{least:+,} to {greatest:+,}"
