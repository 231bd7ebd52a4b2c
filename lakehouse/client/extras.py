"""Optional libraries: those that rows are handed to, and drivers of other stores."""

from __future__ import annotations

import importlib
from typing import Any

from lakehouse.errors import MissingDependencyError


def load(name: str, extra: str | None = None) -> Any:
    """Import an optional library, which the extra of that or its own name installs.

    Raises MissingDependencyError, one line, if it is not installed.
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
