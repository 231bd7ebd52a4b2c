"""The one settings class, `Settings`, and `load_settings`, which builds it from the environment."""

from __future__ import annotations

from lakehouse.market.venues import VENUES
from lakehouse.settings.loading import canonical_symbols, load_settings, refuse_unknown_variables
from lakehouse.settings.model import (
    ALWAYS_BARS,
    BAR_SIZES,
    DEFAULT_SYMBOLS,
    OTHER_VARIABLES,
    Settings,
)
from lakehouse.settings.values import AVAILABLE_NOW

__all__ = [
    "ALWAYS_BARS",
    "AVAILABLE_NOW",
    "BAR_SIZES",
    "DEFAULT_SYMBOLS",
    "OTHER_VARIABLES",
    "VENUES",
    "Settings",
    "canonical_symbols",
    "load_settings",
    "refuse_unknown_variables",
]
