"""Where a process kills itself: a hook per kill point, put in from outside, around the real code.

Nothing of this is in the product. A hook wraps one function of it by name, so a rename ends the child with an
AttributeError, and the test that expects a SIGKILL fails.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.broker.offset_ranges import OffsetRange, OffsetRangeReader

Hook = Callable[[], None]

#: Delivery reports that come before the one in which ingest dies.
REPORTS = 200

#: Most messages of a unit, where a batch of a kill point's round is to be several units.
UNIT_MESSAGES = 40

_UNTIL_DEATH = contextlib.ExitStack()


def die() -> None:
    """Die as by kill -9, exactly here."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, fits: Callable[..., bool] = lambda *_, **__: True) -> None:
    """Die when `owner.name` is called with arguments that fit, before it does anything."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def hooked(*arguments: Any, **named: Any) -> Any:
        if fits(*arguments, **named):
            die()
        return original(*arguments, **named)

    setattr(owner, name, hooked)


def after(owner: Any, name: str, fits: Callable[..., bool] = lambda *_, **__: True) -> None:
    """Die when `owner.name` has been done with arguments that fit, before its caller goes on."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def hooked(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        if fits(*arguments, **named):
            die()
        return result

    setattr(owner, name, hooked)


def _is_for(table: Any) -> Callable[..., bool]:
    """Return a test of whether the second argument is a certain table."""
    return lambda *arguments, **_: arguments[1] is table


def _is_row_of(query: str) -> Callable[..., bool]:
    from lakehouse.tables import OPS_BATCHES

    def fits(settings: Any, table: Any, rows: list[dict[str, Any]], *_: Any, **__: Any) -> bool:
        return bool(table is OPS_BATCHES and rows[0]["query"] == query)

    return fits


def table_committed(query: str) -> Hook:
    """After the commits of the query's tables, before its row in ops/batches."""

    def install() -> None:
        from lakehouse.lake import table_io

        before(table_io, "append_rows", _is_row_of(query))

    return install


def batch_recorded(query: str) -> Hook:
    """After the row in ops/batches, before Spark commits the batch to the checkpoint."""

    def install() -> None:
        from lakehouse.lake import table_io

        after(table_io, "append_rows", _is_row_of(query))

    return install


def messages_half_read() -> None:
    """Bronze: after some of a batch's messages have been read and written, before the rest and the commit."""
    from lakehouse.broker.offset_ranges import OffsetRangeReader

    original = OffsetRangeReader.read

    def read(reader: OffsetRangeReader, ranges: Sequence[OffsetRange]) -> Iterator[Any]:
        yield from itertools.islice(original(reader, ranges), 1)
        die()

    OffsetRangeReader.read = read  # type: ignore[method-assign, assignment]


def between_units(name: str) -> Hook:
    """After a work `name` has written a file of a batch's first units, before the next unit and the commit.

    Batches are divided into units of few messages. A unit that is done alone is done in this process.
    """

    def install() -> None:
        from lakehouse.streams.tasks import Tasks
        from tests.support.small_units import small_units

        _UNTIL_DEATH.enter_context(small_units(UNIT_MESSAGES))
        original = Tasks.run

        def run(tasks: Any, units: Sequence[Any], work: Any, *undo: Any, **named: Any) -> Any:
            if work.__name__ != name or len(units) < 2:
                return original(tasks, units, work, *undo, **named)
            for unit in units[:-1]:
                (done,) = original(tasks, [unit], work, *undo, **named)
                if done.files:  # a unit of feed events alone makes no file of trades
                    die()
            raise AssertionError("no unit but the last one has a file")

        Tasks.run = run  # type: ignore[method-assign, assignment]

    return install


def trades_appended() -> None:
    """Silver: after the append of the trades, before conflicts, quarantine, feed events and ledger."""
    from lakehouse.streams import silver

    after(silver, "append_trades")


def quarantine_merged() -> None:
    """Silver: after the conflicts' rows in quarantine, before those of what could not be read, and the ledger."""
    from lakehouse.streams import silver
    from lakehouse.tables import SILVER_QUARANTINE

    after(silver, "merge_by_offset", _is_for(SILVER_QUARANTINE))


def events_merged() -> None:
    """Silver: after trades, quarantine and feed events, before the ledger."""
    from lakehouse.streams import silver
    from lakehouse.tables import SILVER_FEED_EVENTS

    after(silver, "merge_by_offset", _is_for(SILVER_FEED_EVENTS))


def ledger_written() -> None:
    """Silver: after the ledger, before anything that follows."""
    from lakehouse.continuity.ledger import Ledger

    after(Ledger, "take")


def minute_bars_written() -> None:
    """Gold: after the one-minute bars, before the five-minute bars."""
    from lakehouse.streams import gold_write
    from lakehouse.tables import GOLD_BARS_5M

    before(gold_write, "sync", _is_for(GOLD_BARS_5M))


def indicators_written() -> None:
    """Gold: after bars and indicators, before moves and spreads."""
    from lakehouse.streams import gold_write
    from lakehouse.tables import GOLD_MOVES

    before(gold_write, "sync", _is_for(GOLD_MOVES))


def trades_acknowledged() -> None:
    """Ingest: Kafka has acknowledged a trade, and nobody in this process knows yet."""
    from lakehouse.ingest import producer

    reports = iter(range(REPORTS))
    before(producer, "_trade_acknowledged", lambda *_: next(reports, None) is None)


def gap_filled() -> None:
    """Ingest: Kafka has acknowledged every trade of a repair, and the event `gap_repaired` is not sent yet."""
    from lakehouse.ingest.producer import KafkaSink

    before(KafkaSink, "event", lambda *arguments: arguments[1].event == "gap_repaired")


def rebuild_marked() -> None:
    """Rebuild of Silver: after the mark that keeps the streams out, before anything is written."""
    from lakehouse.streams import unfinished

    after(unfinished, "begin")


def table_replaced(path: str) -> Hook:
    """Rebuild of Silver: after one of its tables has been replaced."""

    def install() -> None:
        from lakehouse.rebuild.silver import _Rebuild
        from lakehouse.tables import BY_PATH

        after(_Rebuild, "_write", _is_for(BY_PATH[path]))

    return install


def ledger_replaced() -> None:
    """Rebuild of Silver: after silver/continuity, before Gold."""
    from lakehouse.continuity.ledger import Ledger

    after(Ledger, "write")


def first_day_rebuilt() -> None:
    """Rebuild of Silver: after the first day of Gold, before the second."""
    from lakehouse.rebuild.gold import _Rebuild

    after(_Rebuild, "slice")


def gold_set_aside() -> None:
    """Rebuild of Silver: the checkpoint of Gold's stream is moved aside, and the new one is not there yet."""
    from lakehouse.streams.checkpoints import BEGIN, Checkpoint

    before(Checkpoint, "write", lambda *arguments: arguments[1] == BEGIN)


def rebuild_written() -> None:
    """Rebuild of Silver: after all tables, before its rows in ops/batches."""
    from lakehouse.rebuild import batch_records

    before(batch_records, "record_batches")


def rebuild_booked() -> None:
    """Rebuild of Silver: after its rows in ops/batches, before the mark goes."""
    from lakehouse.streams import unfinished

    before(unfinished, "end")


STREAM_POINTS: dict[str, Hook] = {
    "bronze.reading": messages_half_read,
    "bronze.units": between_units("land"),
    "bronze.table": table_committed("bronze"),
    "bronze.batch": batch_recorded("bronze"),
    "silver.units": between_units("refine"),
    "silver.trades": trades_appended,
    "silver.quarantine": quarantine_merged,
    "silver.events": events_merged,
    "silver.ledger": ledger_written,
    "silver.table": table_committed("silver"),
    "silver.batch": batch_recorded("silver"),
    "gold.minute": minute_bars_written,
    "gold.indicators": indicators_written,
    "gold.table": table_committed("gold"),
    "gold.batch": batch_recorded("gold"),
}
INGEST_POINTS: dict[str, Hook] = {"ingest.acknowledged": trades_acknowledged, "ingest.repaired": gap_filled}
REBUILD_POINTS: dict[str, Hook] = {
    "rebuild.mark": rebuild_marked,
    "rebuild.quarantine": table_replaced("silver/quarantine"),
    "rebuild.feed_events": table_replaced("silver/feed_events"),
    "rebuild.trades": table_replaced("silver/trades"),
    "rebuild.continuity": ledger_replaced,
    "rebuild.gold_tables": indicators_written,
    "rebuild.gold_days": first_day_rebuilt,
    "rebuild.gold_stream": gold_set_aside,
    "rebuild.books": rebuild_written,
    "rebuild.unmark": rebuild_booked,
}
POINTS = STREAM_POINTS | INGEST_POINTS | REBUILD_POINTS
