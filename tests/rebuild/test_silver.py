"""Silver rebuilt from Bronze after a parser fix: real Kafka, real Spark, judged by plain Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.cli.rebuild import silver_lines
from lakehouse.continuity.ledger import Ledger
from lakehouse.errors import LeaseHeldError, RetriableError, TerminalError
from lakehouse.lake import table_io
from lakehouse.lake.lease import Lease
from lakehouse.rebuild import batch_records
from lakehouse.rebuild import silver as rebuild
from lakehouse.rebuild.silver import SilverReport, rebuild_silver
from lakehouse.settings import Settings
from lakehouse.streams import unfinished
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamRunner
from lakehouse.tables import (
    BY_PATH,
    OPS_BATCHES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_TRADES,
)
from tests.support.messages import NEW_YEAR, send, trades
from tests.support.rows import batch_row, empty_lake
from tests.support.silver_judge import assert_exact, assert_silver_is, rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
from tests.support.parser_fix import Poller, fed, of_market, parser

TABLES = (
    "silver/trades",
    "silver/quarantine",
    "silver/feed_events",
    "silver/continuity",
    "gold/bars_1m",
    "ops/batches",
)


# --------------------------------------------------------------------------------------- what the tables should hold


def assert_silver(settings: Settings, refused: str, rule: str = "bad_market") -> None:
    assert_silver_is(settings, lambda value, _: rule if value["native_symbol"] == refused else None)


def versions(settings: Settings) -> dict[str, int]:
    return {path: table_io.open_table(settings, BY_PATH[path]).version() for path in TABLES}


# --------------------------------------------------------------------------------------- the tests


@pytest.mark.spark
@pytest.mark.kafka
def test_a_fix_changes_silver_and_gold_and_the_streams_go_on(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    with parser("ODDUSDT"):
        fed(settings)
        assert_silver(settings, "ODDUSDT")
        assert_exact(settings)

        # 1. The same rules: nothing is written.
        before = versions(settings)
        report = rebuild_silver(settings)
        assert report.identical
        assert not any(table.changed for table in report.tables)
        assert silver_lines(report)[-1].endswith("nothing written")
        assert versions(settings) == before

    old = trades_in_silver(settings)
    send(settings, settings.topic_trades, [*of_market("ODDUSDT", 3, 6, 7), *of_market("GONEUSDT", 4, 4)])
    materialize(settings, ("bronze",))
    with parser("GONEUSDT"):
        # 2. The fix. Messages that Silver's stream has not read stay for it; a reader sees the old or the new.
        said: list[str] = []
        with Poller(settings) as poller:
            report = rebuild_silver(settings, said.append)
        new = trades_in_silver(settings)
        assert poller.seen <= {old, new}
        assert new != old
        assert_fixed(settings, report, said)
        assert_silver(settings, "GONEUSDT")
        assert_exact(settings)

        # 3. The streams go on from where they were.
        materialize(settings)
        assert_silver(settings, "GONEUSDT")
        send(settings, settings.topic_trades, [*of_market("ODDUSDT", 3, 4, 1, 9), *trades(20, seed=41, first_id=700)])
        materialize(settings)
        assert_silver(settings, "GONEUSDT")
        assert_exact(settings)
        odd = "SELECT first_id, last_id, state FROM t WHERE symbol = 'ODD/USDT' ORDER BY first_id"
        assert [tuple(row.values()) for row in table_io.sql(settings, odd, t=SILVER_CONTINUITY).to_pylist()] == [
            (1, 7, "present"), (8, 8, "open"), (9, 9, "present"),
        ]  # fmt: skip

    # 4. A rule by another name: the trades and Gold are left alone, and Gold's stream reads on.
    with parser("GONEUSDT", rule="bad_place"):
        before, checkpoints = versions(settings), sorted(path.name for path in Path(settings.checkpoints).iterdir())
        report = rebuild_silver(settings)
        assert [table.table_path for table in report.tables if table.changed] == ["silver/quarantine"]
        after = versions(settings)
        assert {path for path in before if after[path] != before[path]} == {
            "silver/trades",  # the mark of the rebuild, set and taken away; no rows
            "silver/quarantine",
            "ops/batches",
        }
        assert sorted(path.name for path in Path(settings.checkpoints).iterdir()) == checkpoints
        send(settings, settings.topic_trades, trades(20, seed=42, first_id=800))
        materialize(settings)
        assert_silver(settings, "GONEUSDT", "bad_place")
        assert_exact(settings)


def trades_in_silver(settings: Settings) -> frozenset[tuple[Any, ...]]:
    """Venue, symbol, id and offset of every trade."""
    return frozenset(
        tuple(row.values()) for row in rows(settings, SILVER_TRADES, "venue, symbol, trade_id, kafka_offset")
    )


def assert_fixed(settings: Settings, report: SilverReport, said: list[str]) -> None:
    changes = {table.table_path: (table.after - table.before, table.changed) for table in report.tables}
    # ODD: 4 new. GONE: 3 less, and one of them conflicted. 500 and 501 are there either way, by other messages.
    assert changes["silver/trades"] == (1, True)
    assert changes["silver/quarantine"] == (-2, True)
    assert changes["silver/feed_events"] == (0, False)
    assert (report.rules_before["bad_market"], report.rules_after["bad_market"]) == (5, 5)
    assert (report.rules_before["conflict"], report.rules_after["conflict"]) == (5, 3)
    assert any(line.startswith("writing silver/trades: ") for line in said)
    assert "quarantined as conflict: 5 → 3 messages" in silver_lines(report)
    assert [path.name for path in Path(settings.checkpoints).iterdir() if path.name.startswith("gold-before-")]
    newest = table_io.sql(settings, "SELECT max(ts_event) AS at FROM t", t=SILVER_TRADES).to_pylist()[0]["at"]
    assert newest.day == 4  # the third day after New Year: the fourth and fifth have gone with their trades
    btc = "SELECT first_id, last_id, state FROM t WHERE symbol = 'BTC/USDT' AND venue = 'binance' AND first_id > 400"
    ranges = table_io.sql(settings, btc + " ORDER BY first_id", t=SILVER_CONTINUITY).to_pylist()
    assert [tuple(row.values()) for row in ranges] == [
        (495, 496, "unavailable"), (497, 499, "open"), (500, 501, "present"),
    ]  # fmt: skip


class Cut(Exception):  # noqa: N818
    """In place of a kill."""


@pytest.mark.spark
@pytest.mark.kafka
def test_a_rebuild_that_is_cut_keeps_the_streams_out_until_it_is_done(
    spark: SparkSession, kafka_settings: Settings
) -> None:
    settings = kafka_settings
    with parser("ODDUSDT"):
        fed(settings)
    send(settings, settings.topic_trades, trades(10, seed=43, first_id=900))
    materialize(settings, ("bronze",))

    def cut_at(place: Any, name: str, fits: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(place, name)

        def cut(*arguments: Any) -> Any:
            if fits(*arguments):
                raise Cut
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, name, cut)
            with pytest.raises(Cut):
                rebuild_silver(settings)
        for layers in (("silver",), ("gold",)):
            with pytest.raises(TerminalError, match=r"was cut .* say `lakehouse rebuild silver`") as refusal:
                materialize(settings, layers)
            assert "\n" not in str(refusal.value)
        with pytest.raises(TerminalError, match="was cut"):
            StreamRunner(settings).start()
        materialize(settings, ("bronze",))  # it is no part of it

    with parser("GONEUSDT"):
        cut_at(
            rebuild, "replace_all", lambda _, table, *__: table is SILVER_TRADES
        )  # quarantine is new, the trades are old
        cut_at(Ledger, "write")  # the trades are new, the ledger is old
        cut_at(batch_records, "record_batches")  # all tables are new, and what they are of is not written down
        ids = {row["generation"] for row in rows(settings, OPS_BATCHES) if row["generation"].startswith("rebuild-")}
        assert ids == set()
        cut_at(unfinished, "end")
        said: list[str] = []
        assert rebuild_silver(settings, said.append).identical
        assert said[0].endswith("was cut after its last table: it is finished")
        assert_exact(settings)
        materialize(settings)
        assert_silver(settings, "GONEUSDT")
        assert_exact(settings)


def test_what_stands_in_the_way_is_said_in_one_line(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    with pytest.raises(TerminalError, match=r"has read nothing of bronze/messages; .*start `lakehouse stream silver`"):
        rebuild_silver(settings)
    with Lease(settings, ("silver",), "run 7"), pytest.raises(LeaseHeldError, match="being written by run 7"):
        rebuild_silver(settings)

    def stands(version: int, complete: bool, at: int) -> None:
        row = batch_row("silver", at, at=NEW_YEAR + at, source_end={"version": version, "complete": complete})
        table_io.append_rows(settings, OPS_BATCHES, [row])

    stands(7, False, at=1)
    with pytest.raises(RetriableError, match="stands at version 7 of bronze/messages, in the middle of it"):
        rebuild_silver(settings)
    stands(8, True, at=2)
    stands(3, True, at=3)
    with pytest.raises(RetriableError, match="stands at version 3 of bronze/messages; expected the end of the newest"):
        rebuild_silver(settings)
    assert unfinished.unfinished(settings) is None
    assert table_io.row_count(table_io.open_table(settings, SILVER_FEED_EVENTS)) == 0
