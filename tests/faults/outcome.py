"""The outcome of one seed: a line for people, an object for the JSON file, a row for docs/reliability.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.verdict import Figures


@dataclass
class Outcome:
    """One seed. `failures` is empty where it passed; times are in seconds."""

    seed: int
    system: str
    minutes: float
    rate: float
    kills: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)  #: kind → how often it was begun
    done: dict[str, int] = field(default_factory=dict)  #: kind → what it did, by the simulator's count
    figures: Figures = field(default_factory=Figures)
    storm_seconds: float = 0.0
    drain_seconds: float | None = None
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures

    def line(self) -> str:
        """The result in one line."""
        one = self.figures
        drained = "never" if self.drain_seconds is None else f"{self.drain_seconds:.0f} s"
        minutes = f"{self.storm_seconds / 60:.1f} min"
        return (
            f"seed {self.seed} {'passed' if self.passed else 'FAILED'}: {self.system}, {minutes} at "
            f"{self.rate:g}/s; {sum(self.kills.values())} kills, {sum(self.faults.values())} faults; "
            f"{one.made:,} trades made, {one.compared:,} equal, {one.repaired:,} repaired, {one.unavailable:,} "
            f"unavailable, {one.duplicates:,} duplicates removed, {sum(one.quarantined.values()):,} quarantined; "
            f"drained in {drained}; {self.seconds:.0f} s in all"
        )


HEADER = (
    "| Seed | System | Minutes | Kills | Faults begun | Trades made | Equal | Repaired | Unavailable | "
    "Duplicates removed | Quarantined | Drained in | Verdict |"
)


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: one row a seed, and a row of sums."""
    rows = [_cells(one) for one in outcomes]
    if len(outcomes) > 1:
        figures = [one.figures for one in outcomes]
        sums = [
            sum(sum(one.kills.values()) for one in outcomes),
            sum(sum(one.faults.values()) for one in outcomes),
            *(sum(getattr(one, name) for one in figures) for name in _FIGURES),
            sum(sum(one.quarantined.values()) for one in figures),
        ]
        passed = f"{sum(one.passed for one in outcomes)} of {len(outcomes)}"
        rows.append(
            ["all", "", f"{sum(one.storm_seconds for one in outcomes) / 60:.1f}", *(f"{n:,}" for n in sums), "", passed]
        )
    rule = "|" + "---|" * (HEADER.count("|") - 1)
    return "\n".join([HEADER, rule, *(f"| {' | '.join(cells)} |" for cells in rows)])


_FIGURES = ("made", "compared", "repaired", "unavailable", "duplicates")


def _cells(one: Outcome) -> list[str]:
    counts = [sum(one.kills.values()), sum(one.faults.values()), *(getattr(one.figures, name) for name in _FIGURES)]
    return [
        str(one.seed),
        one.system,
        f"{one.storm_seconds / 60:.1f}",
        *(f"{count:,}" for count in counts),
        f"{sum(one.figures.quarantined.values()):,}",
        "" if one.drain_seconds is None else f"{one.drain_seconds:.0f} s",
        "passed" if one.passed else "FAILED",
    ]


def write_json(file: Path, outcomes: Sequence[Outcome], command: str) -> None:
    """Everything, so that a table can be made of it later."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {"command": command, "seeds": [{**asdict(one), "passed": one.passed} for one in outcomes]}
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_json(file: Path) -> list[Outcome]:
    """Read the outcomes that `write_json` wrote."""
    seeds = json.loads(file.read_text(encoding="utf-8"))["seeds"]
    outcomes = []
    for seed in seeds:
        seed.pop("passed")
        outcomes.append(Outcome(**{**seed, "figures": Figures(**seed["figures"])}))
    return outcomes
