"""The mark of a rebuild of Silver that has begun and not ended: a property of silver/trades. No JVM.

Guarantee: the property is set by one commit before the rebuild writes anything and cleared by one commit after all it
has written; in between no stream of Silver or Gold starts. It is a part of the table's log, so it is set as a whole or
not at all, and moves with the lake.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from deltalake import DeltaTable

from lakehouse.errors import TerminalError
from lakehouse.lake import table_io
from lakehouse.lake.table_log import NO_HOOK
from lakehouse.settings import Settings
from lakehouse.tables import SILVER_TRADES

#: Name of the Delta table property; its value is empty if no rebuild is under way.
PROPERTY = "lakehouse.rebuild"

#: Layers whose tables may be half new and half old while the property is set.
LAYERS = ("silver", "gold")


@dataclass(frozen=True)
class Unfinished:
    """A rebuild's id, and the version of silver/trades before it."""

    rebuild_id: str
    trades_version: int


def unfinished(settings: Settings) -> Unfinished | None:
    """Return the rebuild that is under way or was cut, None if there is none, or no silver/trades yet."""
    if not DeltaTable.is_deltatable(table_io.table_uri(settings, SILVER_TRADES)):
        return None
    configuration = table_io.open_table(settings, SILVER_TRADES).metadata().configuration
    text = configuration.get(PROPERTY)
    return Unfinished(**json.loads(text)) if text else None


def begin(settings: Settings, rebuild: Unfinished) -> None:
    """Set the property: no stream of Silver or Gold starts from now on."""
    _set(settings, json.dumps(asdict(rebuild)))


def end(settings: Settings) -> None:
    """Clear the table property PROPERTY: streams of Silver and Gold may start again."""
    _set(settings, "")


def require_finished(settings: Settings, layers: tuple[str, ...]) -> None:
    """Raise TerminalError if a stream of these layers would meet a rebuild that was cut. Call it with the lease."""
    if set(layers) & set(LAYERS) and (cut := unfinished(settings)) is not None:
        raise TerminalError(
            f"a rebuild of Silver in {settings.lake} was cut ({cut.rebuild_id})",
            "it to be finished first",
            "say `lakehouse rebuild silver`",
        )


def _set(settings: Settings, text: str) -> None:
    # deltalake takes properties that are not Delta's own only with this option.
    table_io.open_table(settings, SILVER_TRADES).alter.set_table_properties(
        {PROPERTY: text}, raise_if_not_exists=False, post_commithook_properties=NO_HOOK
    )
