"""Optional libraries: libraries to which rows are handed over, and drivers of other stores."""

from __future__ import annotations

import importlib
from typing import Any

from lakehouse.errors import MissingDependencyError


def load(name: str, extra: str | None = None) -> Any:
    """Import and return an optional library.

    `extra` is the extra of this package that installs it, by default the one with the library's name. Raises
    MissingDependencyError if the library is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and lacks something itself
            raise
        raise MissingDependencyError(
            f"no {name} in this Python environment",
            name,
            f"install it: pip install 'crypto-lakehouse[{extra or name}]'",
        ) from None
