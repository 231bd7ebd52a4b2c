"""Each trade once, however late a repeat; the ledger; conflicts: on real Kafka and Spark, judged by plain Python."""

from __future__ import annotations

import json
import random
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.continuity.gaps import open_gaps
from lakehouse.continuity.known_ids import KnownIds
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import silver, silver_commits
from lakehouse.streams.bulk_append import BulkAppend
from lakehouse.streams.materialize import materialize
from lakehouse.streams.runner import StreamFailedError
from lakehouse.tables import OPS_BATCHES, SILVER_CONTINUITY, SILVER_QUARANTINE, SILVER_TRADES
from tests.support.messages import NEW_YEAR, send, trade, trades

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

TO_SILVER = ("bronze", "silver")
Row = dict[str, Any]


def rows(settings: Settings, query: str, table: Any) -> list[Row]:
    found: list[Row] = table_io.sql(settings, query, t=table).to_pylist()
    return found


def ids(settings: Settings) -> list[tuple[str, str, int]]:
    found = rows(settings, "SELECT venue, symbol, trade_id FROM t ORDER BY venue, symbol, trade_id", SILVER_TRADES)
    return [(row["venue"], row["symbol"], row["trade_id"]) for row in found]


def ledger(settings: Settings) -> list[tuple[int, int, str]]:
    found = rows(settings, "SELECT first_id, last_id, state FROM t ORDER BY venue, symbol, first_id", SILVER_CONTINUITY)
    return [(row["first_id"], row["last_id"], row["state"]) for row in found]


def last_batch(settings: Settings) -> Row:
    return rows(settings, "SELECT * FROM t WHERE query = 'silver' ORDER BY committed_at DESC LIMIT 1", OPS_BATCHES)[0]


def event(kind: str, first: int, last: int) -> Row:
    return {
        "venue": "binance",
        "event": kind,
        "ts_event": NEW_YEAR,
        "connection_id": "c1",
        "symbol": "BTC/USDT",
        "first_id": first,
        "last_id": last,
        "detail": "",
    }


def numbered(*numbers: int, **changes: Any) -> list[Row]:
    return [trade(trade_id=number, ts_event=NEW_YEAR + number * 1_000_000, **changes) for number in numbers]


def test_any_order_batching_and_repetition_ends_in_the_same_tables(
    spark: SparkSession, kafka_settings: Settings
) -> None:
    settings, rng, good = kafka_settings, random.Random(5), trades(400, seed=20)
    rng.shuffle(good)
    held_back, sent = good[:5], good[5:]
    for part in (sent[:150], [*sent[100:250], *sent[:30]], [*sent[250:], *sent[200:]]):
        rng.shuffle(part)
        send(settings, settings.topic_trades, part)
        materialize(settings, TO_SILVER)
    want = sorted((one["venue"], one["symbol"], one["trade_id"]) for one in sent)
    assert ids(settings) == want
    assert {(h.venue, h.symbol, n) for h in open_gaps(settings) for n in range(h.first_id, h.last_id + 1)} <= {
        (one["venue"], one["symbol"], one["trade_id"]) for one in held_back
    }

    # The whole topic again, the ones that were held back, and a topic's copy: a repair a month later adds only those.
    send(settings, settings.topic_trades, [*good, *sent])
    materialize(settings, TO_SILVER)

    want = sorted((one["venue"], one["symbol"], one["trade_id"]) for one in good)
    assert ids(settings) == want
    assert open_gaps(settings) == []
    row = last_batch(settings)
    assert (row["rows_in"], row["rows_out"], row["rows_duplicate"]) == (795, 5, 790)
    assert all(state == "present" for _, _, state in ledger(settings))
    assert len(ledger(settings)) == len({key[:2] for key in want})


def test_every_batch_says_where_each_partitions_messages_ended(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    send(settings, settings.topic_trades, [*numbered(1, 2, 3, 3, 2), b"junk", *numbered(3, price="9.5")])
    send(settings, settings.topic_feed_events, [event("connected", 0, 0)])
    materialize(settings, TO_SILVER)
    row = last_batch(settings)
    totals = {"in": 0, "out": 0, "duplicate": 0, "quarantined": 0, "feed_events": 0}
    for numbers in json.loads(row["partitions"]).values():
        for counts in numbers.values():
            assert counts["in"] == sum(counts.values()) - counts["in"]
            totals = {name: totals[name] + counts[name] for name in totals}
    assert totals == {"in": 8, "out": 3, "duplicate": 2, "quarantined": 2, "feed_events": 1}
    assert (row["rows_in"], row["rows_out"], row["rows_duplicate"], row["rows_quarantined"]) == (8, 3, 2, 2)


def test_the_same_id_with_other_content_is_quarantined(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    first = numbered(1, 2, 3, 4, 5)
    send(settings, settings.topic_trades, first)
    materialize(settings, TO_SILVER)
    harmless = [
        trade(trade_id=1, ts_event=NEW_YEAR + 1_000_000 + 999, price="43250.100", source="repair"),
        trade(trade_id=2, ts_event=NEW_YEAR + 2_000_000, size="0.001"),
    ]
    other = [
        *numbered(1, price="43250.11"),
        *numbered(2, size="2"),
        *numbered(3, side="sell"),
        trade(trade_id=4, ts_event=NEW_YEAR + 4_001_000),
        trade(trade_id=5, ts_event=NEW_YEAR - 86_400_000_000),
        # Both of these are new in their batch: the first stays.
        *numbered(6),
        *numbered(6, price="1"),
    ]
    send(settings, settings.topic_trades, [*harmless, *other])
    materialize(settings, TO_SILVER)

    assert [key[2] for key in ids(settings)] == [1, 2, 3, 4, 5, 6]
    prices = rows(settings, "SELECT DISTINCT CAST(price AS VARCHAR) AS p FROM t", SILVER_TRADES)
    assert [row["p"] for row in prices] == ["43250.100000000000000000"]
    found = rows(settings, "SELECT trade_id, rule, detail, value_raw FROM t ORDER BY kafka_offset", SILVER_QUARANTINE)
    assert [(row["trade_id"], row["rule"]) for row in found] == [(n, "conflict") for n in (1, 2, 3, 4, 5, 6)]
    assert "found buy 0.001 at 43250.11" in found[0]["detail"]
    assert "the trade of this id is buy 0.001 at 43250.1 " in found[0]["detail"]
    assert json.loads(found[1]["value_raw"])["size"] == "2"
    row = last_batch(settings)
    assert (row["rows_in"], row["rows_out"], row["rows_duplicate"], row["rows_quarantined"]) == (9, 1, 2, 6)


def test_gaps_open_close_and_are_given_up(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    send(settings, settings.topic_trades, numbered(1, 2, 3, 10, 11, 20))
    send(settings, settings.topic_feed_events, [event("gap_opened", 4, 9), event("gap_opened", 21, 25)])
    materialize(settings, TO_SILVER)
    present, gap, gone = "present", "open", "unavailable"
    assert ledger(settings) == [
        (1, 3, present), (4, 9, gap), (10, 11, present), (12, 19, gap), (20, 20, present), (21, 25, gap),
    ]  # fmt: skip
    gaps = open_gaps(settings)
    assert [(one.first_id, one.last_id, one.ts_before, one.ts_after) for one in gaps] == [
        (4, 9, NEW_YEAR + 3_000_000, NEW_YEAR + 10_000_000),
        (12, 19, NEW_YEAR + 11_000_000, NEW_YEAR + 20_000_000),
        (21, 25, NEW_YEAR + 20_000_000, None),
    ]
    assert open_gaps(settings, older_than_seconds=120) == []

    send(settings, settings.topic_trades, numbered(*range(4, 10), 22, source="repair"))
    send(settings, settings.topic_feed_events, [event("gap_unavailable", 12, 19)])
    materialize(settings, TO_SILVER)
    assert ledger(settings) == [
        (1, 11, present), (12, 19, gone), (20, 20, present), (21, 21, gap), (22, 22, present), (23, 25, gap),
    ]  # fmt: skip
    repaired = rows(settings, "SELECT repaired FROM t ORDER BY first_id", SILVER_CONTINUITY)
    assert [row["repaired"] for row in repaired] == [6, 0, 0, 0, 1, 0]

    send(settings, settings.topic_trades, numbered(*range(12, 26), source="repair"))  # it had them after all
    materialize(settings, TO_SILVER)
    assert ledger(settings) == [(1, 25, present)]
    assert rows(settings, "SELECT repaired FROM t", SILVER_CONTINUITY)[0]["repaired"] == 6 + 1 + 12


@pytest.mark.parametrize("lost", ["checkpoint", "ledger", "both", "cut"])
def test_the_ledger_is_right_whatever_is_lost(spark: SparkSession, kafka_settings: Settings, lost: str) -> None:
    settings = kafka_settings
    send(settings, settings.topic_trades, numbered(1, 2, 3, 7, 8))
    send(settings, settings.topic_feed_events, [event("gap_unavailable", 4, 5)])
    materialize(settings, TO_SILVER)
    before = ledger(settings)
    assert before == [(1, 3, "present"), (4, 5, "unavailable"), (6, 6, "open"), (7, 8, "present")]
    folder = Path(table_io.table_uri(settings, SILVER_CONTINUITY))
    if lost == "cut":  # killed after the trades of a second batch and before its ledger: the older ledger stands there
        shutil.copytree(folder, folder.with_name("aside"))
        send(settings, settings.topic_trades, numbered(6, 9, 11, source="repair"))
        materialize(settings, TO_SILVER)
        shutil.rmtree(folder)
        folder.with_name("aside").rename(folder)
        commit = Path(settings.checkpoints) / "silver" / "commits" / "1"
        commit.unlink()
        commit.with_name(".1.crc").unlink(missing_ok=True)
    if lost in ("checkpoint", "both"):
        shutil.rmtree(Path(settings.checkpoints) / "silver")
    if lost in ("ledger", "both"):
        shutil.rmtree(folder)
    send(settings, settings.topic_trades, numbered(10))
    materialize(settings, TO_SILVER)
    count = len(ids(settings))
    version = table_io.open_table(settings, SILVER_TRADES).version()
    expected = [(1, 3, "present"), (4, 5, "unavailable"), (6, 6, "open"), (7, 8, "present"), (9, 9, "open")]
    if lost == "ledger":  # the word that 4 and 5 are gone is in the feed events alone, and those were read before
        expected = [(1, 3, "present"), (4, 6, "open"), (7, 8, "present"), (9, 9, "open")]
    if lost == "cut":
        assert count == 9
        assert ledger(settings) == [(1, 3, "present"), (4, 5, "unavailable"), (6, 11, "present")]
        repaired = rows(settings, "SELECT sum(repaired) AS n FROM t", SILVER_CONTINUITY)
        assert repaired[0]["n"] == 3
    else:
        assert count == 6
        assert ledger(settings) == [*expected, (10, 10, "present")]
    assert rows(settings, "SELECT DISTINCT trades_version AS v FROM t", SILVER_CONTINUITY) == [{"v": version}]
    direct = {key: list(ranges) for key, ranges in KnownIds.at(settings, version).items()}
    shutil.rmtree(folder)
    assert {key: list(ranges) for key, ranges in KnownIds.at(settings, version).items()} == direct


@pytest.mark.parametrize("moment", ["before", "within"])
def test_a_second_writer_of_the_same_table_gives_way(
    spark: SparkSession, kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Somebody without our lease commits between our ledger, or our look at the table, and our append."""
    settings = kafka_settings
    send(settings, settings.topic_trades, numbered(1, 2))
    materialize(settings, TO_SILVER)
    send(settings, settings.topic_trades, numbered(3, 4))
    materialize(settings, ("bronze",))
    real = table_io.open_table
    rival = real(settings, SILVER_TRADES).to_pyarrow_table().slice(0, 1)
    place: Any = {"before": silver, "within": BulkAppend}[moment]
    name = {"before": "append_trades", "within": "commit"}[moment]
    plain = getattr(place, name)

    def append_as_rival(*arguments: Any, **options: Any) -> Any:
        shot.undo()
        other = threading.Thread(target=append_one)  # a table that a thread has open is its own
        other.start()
        other.join()
        return plain(*arguments, **options)

    def append_one() -> None:
        number = (real(settings, SILVER_TRADES).transaction_version(silver_commits.APPENDS) or 0) + 1
        row = rival.set_column(rival.schema.get_field_index("trade_id"), "trade_id", [[3]])
        table_io.append_rows(settings, SILVER_TRADES, row.to_pylist(), (silver_commits.APPENDS, number))

    shot = pytest.MonkeyPatch()
    shot.setattr(place, name, append_as_rival)
    with pytest.raises(StreamFailedError, match="another stream writes the same table"):
        materialize(settings, ("silver",))
    shot.undo()

    materialize(settings, ("silver",))

    assert [key[2] for key in ids(settings)] == [1, 2, 3, 4]
    assert ledger(settings) == [(1, 4, "present")]
