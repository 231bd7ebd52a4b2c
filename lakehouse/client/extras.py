"""Libraries that the client can hand its rows to, none of which it needs itself."""

from __future__ import annotations

import importlib
from typing import Any

from lakehouse.errors import MissingDependencyError


def load(name: str) -> Any:
    """Import an optional library. Raises MissingDependencyError, one line, if it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and lacks something itself
            raise
        raise MissingDependencyError(
            f"no {name} in this Python environment", name, f"install it: pip install 'crypto-lakehouse[{name}]'"
        ) from None
