"""Build `Settings` from the environment, with errors of one line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from lakehouse.errors import SettingError
from lakehouse.settings.model import OTHER_VARIABLES, Settings, each_once


def canonical_symbols(names: Iterable[str]) -> tuple[str, ...]:
    """Return the canonical symbols of typed names, each once: `btc/usdt` → `BTC/USDT`.

    Raises SettingError if a name is not a symbol.
    """
    try:
        return each_once(names)
    except ValueError as error:
        raise SettingError(str(error)) from None


def load_settings(**overrides: Any) -> Settings:
    """Return the settings from the environment, with `overrides` on top (None means not overridden).

    Raises SettingError, of one line, if a value cannot be used or a variable LAKEHOUSE_… is not a setting.
    """
    refuse_unknown_variables()
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise SettingError(f"setting {name} (LAKEHOUSE_{name.upper()}): {message}") from None


def refuse_unknown_variables() -> None:
    """Raise SettingError if an environment variable LAKEHOUSE_… is not a setting; a typo would be ignored otherwise."""
    prefix = str(Settings.model_config["env_prefix"])
    known = {*(f"{prefix}{name.upper()}" for name in Settings.model_fields), *OTHER_VARIABLES}
    for name in sorted(os.environ):
        if name.upper().startswith(prefix) and name.upper() not in known:
            words = [one.removeprefix(prefix) for one in sorted(known)]
            nearest = difflib.get_close_matches(name.upper().removeprefix(prefix), words, n=1)
            meant = f"did you mean {prefix}{nearest[0]}? " if nearest else ""
            raise SettingError(
                f"unknown setting {name}",
                "one of lakehouse/settings/model.py's, in capitals behind LAKEHOUSE_",
                f"{meant}Correct or unset it",
            )
