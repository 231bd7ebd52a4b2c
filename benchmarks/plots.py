"""Plots for the documentation: small SVG, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.figures import Run, rows

mpl.use("svg")
# Text as text: a tenth of the size. A fixed salt: the same ids each time.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lakehouse", "font.size": 9})

OURS, OTHERS, FLOORS = "#1f6feb", "#8b949e", "#d0d7de"
FLOOR_PEERS = ("consumer", "noop")


def compare(runs: Sequence[Run], file: Path) -> None:
    """Draw one bar per peer: median trades/s, with minimum and maximum as whiskers."""
    import matplotlib.pyplot as plt

    found = [(row.peer, row.rate) for row in rows(runs) if row.rate is not None]
    figure, axes = plt.subplots(figsize=(6.4, 0.45 * len(found) + 0.9))
    for place, (peer, rate) in enumerate(found):
        colour = OURS if peer == "ours" else FLOORS if peer in FLOOR_PEERS else OTHERS
        whiskers = [[rate.median - rate.least], [rate.greatest - rate.median]]
        axes.barh(place, rate.median, color=colour, xerr=whiskers, ecolor="#57606a", capsize=2)
        axes.annotate(f" {rate.median:,.0f}", (rate.greatest, place), va="center")
    axes.set_yticks(range(len(found)), [peer for peer, _ in found])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("trades/s: median, min and max of the rounds")
    save(figure, file)


def save(figure: Any, file: Path) -> None:
    """Save as SVG without a date, and close."""
    import matplotlib.pyplot as plt

    for side in ("top", "right"):
        figure.axes[0].spines[side].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
