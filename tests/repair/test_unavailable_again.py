"""Rows that a venue publishes later: simulator → REST → Kafka → Spark → the ledger, and Gold whole again."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.continuity.gaps import due_again, gaps_to_repair, open_gaps, unavailable_gaps
from lakehouse.lake import table_io
from lakehouse.local_stack import home_folder
from lakehouse.quality.id_coverage import read_ledger
from lakehouse.rebuild.contents import contents
from lakehouse.repair.run import RepairReport, repair_gaps
from lakehouse.settings import Settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.server import SimulatorServer
from lakehouse.streams.materialize import materialize
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, SILVER_CONTINUITY, SILVER_TRADES
from tests.status.test_snapshot import lakehouse
from tests.support.ingest_runs import events_of, recorded, running
from tests.support.ingest_tools import until
from tests.support.messages import NEW_YEAR, send, trade
from tests.support.truth import assert_bars_equal_fold, assert_silver_equals_record

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.continuity.gaps import LedgerGap
    from lakehouse.ingest.service import IngestService

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.kafka]

MINUTE, HOUR = 60.0, 3600.0
Ids = set[tuple[str, int]]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorServer]:
    options = SimulatorOptions(record=tmp_path / "record", rate=300, symbols=("BTC/USDT",))
    with SimulatorServer(options) as server:
        yield server


@pytest.fixture
def settings(kafka_settings: Settings, simulator: SimulatorServer) -> Settings:
    return kafka_settings.model_copy(update={"symbols": ("BTC/USDT",), "simulator_url": simulator.url})


def traded(simulator: SimulatorServer, trades: int) -> None:
    before = recorded(simulator)
    until(lambda: recorded(simulator) >= before + trades, 60)


def flowing(service: IngestService) -> None:
    assert service.wait_subscribed(20) == {}
    before = service.stats().acked
    until(lambda: service.stats().acked > before + 100, 60)


def settled(service: IngestService) -> None:
    """Every gap is repaired, or called unavailable."""
    until(lambda: all(one.is_idle for one in service._repairers), 90)
    until(lambda: not any(one.open_ids for one in service.stats().venues), 60)


def passed(settings: Settings, seconds: float) -> None:
    """Let time pass by the ledger, as if it had been written earlier."""
    table = table_io.open_table(settings, SILVER_CONTINUITY)
    back = f"INTERVAL '{seconds:.0f} seconds'"
    table.update({name: f"{name} - {back}" for name in ("since", "last_try")})


def ids(gaps: list[LedgerGap]) -> Ids:
    return {(gap.venue, number) for gap in gaps for number in range(gap.first_id, gap.last_id + 1)}


def tries(settings: Settings) -> Counter[int]:
    """Tries → ids."""
    found: Counter[int] = Counter()
    for gap in unavailable_gaps(settings):
        found[gap.tries] += len(gap)
    return found


def lost(settings: Settings, simulator: SimulatorServer) -> Ids:
    """Trades of the exchange between Silver's first and last trade of each venue that Silver lacks."""
    found: Ids = set()
    rows = table_io.sql(settings, "SELECT venue, trade_id FROM t", t=SILVER_TRADES).to_pylist()
    for venue in settings.venues:
        there = {row["trade_id"] for row in rows if row["venue"] == venue}
        true = {one.trade_id for one in simulator.record.iter(venue, "BTC/USDT")}
        found |= {(venue, number) for number in true - there if min(there) < number < max(there)}
    return found


def look(settings: Settings, **choices: Any) -> RepairReport:
    """Do the job's work, and that of the streams after it."""
    report = repair_gaps(settings, gaps_to_repair(settings, **choices))
    materialize(settings)
    return report


def test_rows_come_at_the_second_look_at_the_third_and_on_demand(
    spark: SparkSession, settings: Settings, simulator: SimulatorServer, tmp_path: Path
) -> None:
    # REST leaves out every second row, and sockets lose half of the frames: one answer that skips ids.
    simulator.fault("rest_late_rows", seconds=6000, delay=36_000, every=2)
    with running(settings, simulator) as service:
        flowing(service)
        simulator.fault("drop", seconds=600, share=0.5)
        traded(simulator, 300)
        simulator.end_faults()
        simulator.fault("rest_late_rows", seconds=6000, delay=36_000, every=2)
        flowing(service)
        simulator.pause()
        settled(service)
    materialize(settings)
    missed = lost(settings, simulator)
    assert len(missed) > 30
    assert {venue for venue, _ in missed} == set(settings.venues)
    assert ids(unavailable_gaps(settings)) == missed
    assert tries(settings) == {1: len(missed)}
    assert (open_gaps(settings), due_again(settings)) == ([], [])
    complete = "SELECT count(*) FILTER (WHERE complete) AS n FROM t"
    before = table_io.sql(settings, complete, t=GOLD_BARS_1M).to_pylist()[0]["n"]

    # Minutes later it has half of them.
    passed(settings, 5 * MINUTE)
    simulator.end_faults()
    simulator.fault("rest_late_rows", seconds=6000, delay=36_000, every=4)
    assert ids(due_again(settings)) == missed
    report = look(settings)
    left = lost(settings, simulator)
    assert left == {(venue, number) for venue, number in missed if number % 4 == 0}
    assert (report.ids, report.again, report.repaired) == (len(missed), len(missed), len(missed) - len(left))
    assert (report.unavailable, report.left) == (len(left), 0)
    assert tries(settings) == {2: len(left)}
    assert due_again(settings) == []

    # After an hour it has half of the rest.
    passed(settings, HOUR)
    simulator.end_faults()
    simulator.fault("rest_late_rows", seconds=6000, delay=36_000, every=8)
    assert look(settings).again == len(left)
    left = lost(settings, simulator)
    assert left == {(venue, number) for venue, number in missed if number % 8 == 0}
    assert tries(settings) == {3: len(left)}
    passed(settings, 48 * HOUR)
    assert due_again(settings) == []
    assert look(settings) == RepairReport()

    simulator.end_faults()  # two days later somebody asks
    home_folder.save_environment(settings.home, settings.environment())
    done = lakehouse(settings.home, "repair", "--unavailable", "--home", str(settings.home))
    assert (done.returncode, done.stderr) == (0, "")
    said = f" of {len(left):,} trade ids, {len(left):,} of them unavailable before: {len(left):,} repaired, 0 unavail"
    assert said in done.stdout
    materialize(settings)
    assert tries(settings) == {}
    assert_all_present(settings, tmp_path / "record", missed)
    after = table_io.sql(settings, complete, t=GOLD_BARS_1M).to_pylist()[0]["n"]
    assert after > before or before == after == 0


def assert_all_present(settings: Settings, record: Path, missed: Ids) -> None:
    """Silver and the bars equal the exchange's record, and every missed id came over REST."""
    assert {one.state for one in read_ledger(settings)} == {"present"}
    assert assert_silver_equals_record(settings, record, from_first_seen=True) > 300
    assert assert_bars_equal_fold(settings, 1) > 0
    by_rest = sum(one.repaired for one in read_ledger(settings))
    rows = "SELECT count(*) AS n FROM t WHERE source = 'repair'"
    assert by_rest == table_io.sql(settings, rows, t=SILVER_TRADES).to_pylist()[0]["n"] >= len(missed)
    assert ids_of_kind(settings, "gap_repaired") >= missed


def ids_of_kind(settings: Settings, kind: str) -> Ids:
    return {
        (one["venue"], number)
        for one in events_of(settings, kind)
        for number in range(one["first_id"], one["last_id"] + 1)
    }


def test_half_of_a_range_that_was_older_than_the_history_comes_and_what_the_venue_skipped_never(
    spark: SparkSession, settings: Settings, simulator: SimulatorServer, tmp_path: Path
) -> None:
    one_venue = settings.model_copy(update={"venues": ("coinbase",)})
    with running(one_venue, simulator) as service:
        flowing(service)
    simulator.fault("id_holes", seconds=6000, ids=3, every=1, venue="coinbase")
    traded(simulator, 600)  # while nobody listens
    simulator.end_faults()
    traded(simulator, 100)
    simulator.fault("retention", seconds=6000, trades=50)
    with running(one_venue, simulator) as service:
        flowing(service)
        settled(service)
        simulator.pause()
        settled(service)
    materialize(one_venue)
    missed = lost(one_venue, simulator)
    gone = ids(unavailable_gaps(one_venue))
    skipped = gone - missed
    assert len(missed) > 100
    assert skipped
    assert missed < gone
    assert (len(unavailable_gaps(one_venue)), tries(one_venue)) == (1, {1: len(gone)})

    passed(one_venue, 5 * MINUTE)
    simulator.end_faults()
    newest = sorted(number for _, number in missed)[len(missed) // 2]
    true = [one.trade_id for one in simulator.record.iter("coinbase", "BTC/USDT")]
    simulator.fault("retention", seconds=6000, trades=sum(number >= newest for number in true))
    look(one_venue)
    assert lost(one_venue, simulator) == {(venue, number) for venue, number in missed if number < newest}
    assert set(tries(one_venue)) == {2}
    assert open_gaps(one_venue) == []

    passed(one_venue, HOUR)
    simulator.end_faults()
    look(one_venue)
    assert lost(one_venue, simulator) == set()
    assert ids(unavailable_gaps(one_venue)) == skipped
    assert tries(one_venue) == {3: len(skipped)}
    passed(one_venue, HOUR)
    report = look(one_venue, all_unavailable=True)  # on demand, as often as somebody likes
    assert (report.again, report.unavailable, report.done) == (len(skipped), len(skipped), True)
    assert tries(one_venue) == {4: len(skipped)}
    assert assert_silver_equals_record(one_venue, tmp_path / "record", from_first_seen=True) > 600


def told(first: int, last: int, seconds: float, kind: str = "gap_unavailable") -> dict[str, Any]:
    own = {"venue": "binance", "symbol": "BTC/USDT", "connection_id": "c1", "detail": ""}
    ts_event = NEW_YEAR + int(seconds * 1e6)
    return {**own, "event": kind, "ts_event": ts_event, "first_id": first, "last_id": last}


def ledger(settings: Settings) -> list[tuple[int, int, str, int | None, dt.datetime | None]]:
    query = "SELECT first_id, last_id, state, tries, since, last_try FROM t ORDER BY first_id"
    return [
        (*(row[name] for name in ("first_id", "last_id", "state", "tries")), row["tries"] and row["last_try"])
        for row in table_io.sql(settings, query, t=SILVER_CONTINUITY).to_pylist()
    ]


def at(seconds: float) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=NEW_YEAR + int(seconds * 1e6))


def test_a_kill_counts_no_try_twice_and_a_rebuild_counts_the_same(
    spark: SparkSession, kafka_settings: Settings
) -> None:
    settings = kafka_settings
    numbers = (1, 2, 3, 10, 11, 20)
    send(settings, settings.topic_trades, [trade(trade_id=n, ts_event=NEW_YEAR + n * 1_000_000) for n in numbers])
    send(settings, settings.topic_feed_events, [told(4, 9, 60, "gap_opened"), told(4, 9, 61), told(12, 19, 61)])
    materialize(settings)
    send(settings, settings.topic_feed_events, [told(4, 7, 361), told(4, 7, 362), told(12, 19, 100)])
    materialize(settings)
    expected = [
        (1, 3, "present", None, None),
        (4, 7, "unavailable", 2, at(362)),
        (8, 9, "unavailable", 1, at(61)),
        (10, 11, "present", None, None),
        (12, 19, "unavailable", 1, at(100)),  # within a minute: the same try
        (20, 20, "present", None, None),
    ]
    assert ledger(settings) == expected

    # Killed after the ledger was written and before the batch was done: the batch runs again.
    newest = max(Path(settings.checkpoints, "silver", "commits").glob("[0-9]*"), key=lambda path: int(path.name))
    newest.unlink()
    newest.with_name(f".{newest.name}.crc").unlink(missing_ok=True)
    send(settings, settings.topic_trades, [trade(trade_id=14, ts_event=NEW_YEAR + 14_000_000, source="repair")])
    materialize(settings)
    expected[4:5] = [
        (12, 13, "unavailable", 1, at(100)),
        (14, 14, "present", None, None),
        (15, 19, "unavailable", 1, at(100)),
    ]
    assert ledger(settings) == expected

    before = read_ledger(settings)
    trades_version = table_io.open_table(settings, SILVER_TRADES).version()
    with contents(settings, table_io.open_table(settings, BRONZE_MESSAGES).version(), Tasks(settings)) as new:
        new.ledger.write(trades_version)
    assert ledger(settings) == expected
    since = {one.first_id: one.since for one in before if one.state == "unavailable"}
    assert {one.first_id: one.since for one in read_ledger(settings) if one.state == "unavailable"} == since
    assert since[4] == at(61)
