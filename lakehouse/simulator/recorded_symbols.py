"""Find the symbols whose trades a recorded file holds, by the subscriptions in its first lines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from lakehouse.errors import SettingError
from lakehouse.simulator.playback import open_recording
from lakehouse.simulator.venues.registry import VENUES


def replay_symbols(path: Path | str) -> tuple[str, tuple[str, ...]]:
    """Return (venue, canonical symbols) that the recorder of a file subscribed to.

    A client of the simulator that plays the file subscribes to the same. Raises SettingError if the file cannot be
    read, or names no known venue or no symbol.
    """
    recording = open_recording(Path(path))
    venue = VENUES[recording.venue]
    native: list[str] = []
    streams = parse_qs(urlsplit(recording.url).query).get("streams", [""])[0]
    native += [stream.partition("@")[0] for stream in streams.split("/") if stream]
    with recording.path.open("rb") as file:
        for line in file:
            left, _, right = line.partition(b": ")
            if b" <- " in left:
                with contextlib.suppress(msgspec.DecodeError):
                    native += _names(venue.recorded_names, msgspec.json.decode(right))
            elif b" <->" not in line and line.strip():
                break  # the subscriptions stand before the first frame
    symbols: dict[str, None] = {}
    for name in native:
        with contextlib.suppress(ValueError):
            symbols[venue.recorded_symbol(name)] = None
    if not symbols:
        raise SettingError(f"replay file {path} names no symbols", "a subscription in its first lines")
    return recording.venue, tuple(symbols)


def _names(names_in: Callable[[dict[str, Any]], Any], message: Any) -> list[str]:
    """Return the native symbols of a recorded subscribe message; none if it has another form."""
    found = names_in(message) if isinstance(message, dict) else []
    return [str(name) for name in found] if isinstance(found, list) else []
