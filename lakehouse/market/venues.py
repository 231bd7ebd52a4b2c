"""The names of the venues, in the order of settings, tables and reports, and what their packages declare.

`VENUES` is the one list of them. For each name there is a package in `exchanges` and one in `simulator/venues`. The
registries there find the packages by name and not by an import statement, so that a new venue changes no file but this
and its own. mypy checks a package's `VENUE` at the line that declares it.
"""

from __future__ import annotations

import importlib
from typing import Any

from lakehouse.errors import TerminalError

VENUES = ("binance", "kraken", "coinbase")


def declared(package: str, module: str) -> dict[str, Any]:
    """Import `package.NAME.module` for the name of each venue, and return name → the `VENUE` that it declares.

    Raises TerminalError if a module or its `VENUE` is missing, or if the `VENUE` has another name.
    """
    return {name: _declared(name, f"{package}.{name}.{module}") for name in VENUES}


def in_words(last: str, names: tuple[str, ...] = VENUES) -> str:
    """Return `a, b or c`, with `last` as the word before the last name."""
    *others, end = names
    return f"{', '.join(others)} {last} {end}" if others else end


def titles() -> tuple[str, ...]:
    """Return the venues' names with a capital, as a sentence writes them."""
    return tuple(name.capitalize() for name in VENUES)


def _declared(name: str, path: str) -> Any:
    expected = f"one that declares VENUE, the venue {name!r} of lakehouse.market.venues"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the venue's package is there; a module that it imports is not
        raise TerminalError(f"no module {path}", expected, "docs/recipes.md says how a venue is added") from None
    found = getattr(module, "VENUE", None)
    if found is None:
        raise TerminalError(f"no VENUE in {path}", expected, "docs/recipes.md says how a venue is added")
    if found.name != name:
        raise TerminalError(f"a VENUE called {found.name!r} in {path}", expected, "give it this name")
    return found
