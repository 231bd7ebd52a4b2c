"""The notebooks run on a lake of two markets with gaps; the one with a backtest uses proved bars only."""

from __future__ import annotations

import math
import re
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.documents import ROOT
from tests.support.market_lake import MARKETS, MarketLake

FOLDER = ROOT / "docs" / "notebooks"
NAMES = ("first-look", "backtest")
#: The market that the notebooks choose: the first by name.
MARKET = min(MARKETS)


@pytest.fixture
def home(market: MarketLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the notebooks in a repository whose demo has left a lake."""
    (tmp_path / ".lakehouse").mkdir()
    (tmp_path / ".lakehouse" / "demo").symlink_to(market.settings.home)
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    place = tmp_path / "docs" / "notebooks"
    place.mkdir(parents=True)
    return place


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]


def outputs(name: str, home: Path) -> list[Any]:
    """Run a notebook; its outputs. An exception in a cell raises here."""
    notebook = read(name)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(home)}}).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(found: list[Any]) -> str:
    return "\n".join(str(one.get("text") or one.get("data", {}).get("text/plain", "")) for one in found)


def images(found: list[Any]) -> int:
    return sum("image/png" in one.get("data", {}) for one in found)


def test_these_are_all() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_stored(name: str) -> None:
    for cell in read(name).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_first_look(home: Path, market: MarketLake) -> None:
    found = outputs("first-look", home)
    assert images(found) == 1
    shown = text(found)
    for venue, symbol in MARKETS:
        trades = len(market.of((venue, symbol)))
        missing = dict.fromkeys(("open", "unavailable"), 0)
        for first, last, state in market.gaps[(venue, symbol)]:
            missing[state] += last - first + 1
        expected = trades + sum(missing.values())
        repaired = sum(one["source"] == "repair" for one in market.of((venue, symbol)))
        numbers = (expected, trades, repaired, missing["open"], missing["unavailable"])
        assert re.search(rf"{venue}\s+{symbol}\s+" + r"\s+".join(map(str, numbers)), shown)


def test_backtest(home: Path, market: MarketLake) -> None:
    found = outputs("backtest", home)
    assert images(found) == 1
    shown = text(found)
    runs = [list(bars) for whole, bars in groupby(filled(market), key=lambda bar: bar["complete"]) if whole]
    run = max(runs, key=len)
    while not run[-1]["trades"]:
        run.pop()
    closes = [float(bar["close"]) for bar in run]
    assert f"{len(closes)} proved bars" in shown
    growth, held = 1.0, 0.0
    for at in range(1, len(closes)):
        now = float(at >= 10 and mean(closes[at - 3 : at]) > mean(closes[at - 10 : at]))
        growth *= 1 + now * (closes[at] / closes[at - 1] - 1) - abs(now - held) * 0.0005
        held = now
    result = re.search(r"strategy (\S+) holding (\S+)", shown)
    assert result is not None
    assert math.isclose(float(result[1]), growth - 1, abs_tol=2e-6)
    assert math.isclose(float(result[2]), closes[-1] / closes[0] - 1, abs_tol=2e-6)
    refusal = re.search(r"refused: \S+ at \S+: (\d+) trades are missing and (\d+) are lost", shown)
    assert refusal is not None
    assert int(refusal[1]) + int(refusal[2]) > 0


def filled(market: MarketLake) -> list[dict[str, Any]]:
    """Every minute from the first bar to the last; an empty one is complete if the ids around it follow each other."""
    bars = [bar for bar in market.bars(1) if (bar["venue"], bar["symbol"]) == MARKET]
    rows = bars[:1]
    for before, bar in pairwise(bars):
        minutes = round((bar["bar_start"] - before["bar_start"]).total_seconds() / 60)
        joined = before["last_trade_id"] + 1 == bar["first_trade_id"]
        rows += [{"complete": joined, "close": before["close"], "trades": 0}] * (minutes - 1) + [bar]
    return rows


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
