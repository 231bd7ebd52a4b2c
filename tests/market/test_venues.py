"""Venues by name: each name has its packages, each package its name, and what is missing is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import lakehouse.exchanges
import lakehouse.simulator.venues
from lakehouse.errors import TerminalError
from lakehouse.market import venues
from lakehouse.market.venues import VENUES, declared, in_words, titles

EXPECTED = "expected one that declares VENUE, the venue '{}' of lakehouse.market.venues"


@pytest.mark.parametrize("package", [lakehouse.exchanges, lakehouse.simulator.venues], ids=lambda one: one.__name__)
def test_there_is_a_package_for_each_name_and_no_other(package: object) -> None:
    (folder,) = package.__path__  # type: ignore[attr-defined]
    assert {init.parent.name for init in Path(folder).glob("*/__init__.py")} == set(VENUES)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venues, "VENUES", ("binance", "mtgox"))
    with pytest.raises(TerminalError) as raised:
        declared("lakehouse.exchanges", "stream")
    how = "docs/recipes.md says how a venue is added"
    assert str(raised.value) == f"no module lakehouse.exchanges.mtgox.stream; {EXPECTED.format('mtgox')}; {how}"


def test_a_missing_name_is_one_line() -> None:
    with pytest.raises(TerminalError, match=r"^no VENUE in lakehouse\.exchanges\.binance\.names; expected one that "):
        declared("lakehouse.exchanges", "names")


def shop(folder: Path, name: str, stream: str) -> None:
    """A package with one venue, `mtgox`."""
    (folder / name / "mtgox").mkdir(parents=True)
    (folder / name / "mtgox" / "stream.py").write_text(stream, encoding="utf-8")


def test_another_name_than_its_own_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop(tmp_path, "renamed_shop", "from types import SimpleNamespace\nVENUE = SimpleNamespace(name='magic')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(venues, "VENUES", ("mtgox",))
    with pytest.raises(TerminalError, match=r"^a VENUE called 'magic' in renamed_shop\.mtgox\.stream; expected "):
        declared("renamed_shop", "stream")


def test_a_module_that_a_venue_lacks_is_named_as_python_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(tmp_path, "broken_shop", "import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(venues, "VENUES", ("mtgox",))
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        declared("broken_shop", "stream")


def test_names_in_words() -> None:
    assert in_words("or", ("a",)) == "a"
    assert in_words("or", ("a", "b")) == "a or b"
    assert in_words("and", ("a", "b", "c")) == "a, b and c"
    assert in_words("and", ("Binance", "Kraken", "Coinbase")) == "Binance, Kraken and Coinbase"
    assert titles() == tuple(name.capitalize() for name in VENUES)
