"""The plan of a batch, read from the checkpoint and the table's log, against the rows that Spark itself sees in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]
from deltalake import DeltaTable, write_deltalake

from lakehouse.broker.offset_ranges import MessagesLostError, OffsetRange
from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.streams import batch_files, batch_plan
from lakehouse.streams.checkpoints import Checkpoint
from lakehouse.tables import SILVER_TRADES
from lakehouse.transforms.time_ranges import TimeRange
from tests.support import appended
from tests.support.messages import send, trade
from tests.support.rows import NOON_US, empty_lake, trade_row, utc

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DAY = 86_400_000_000
Seen = list[tuple[list[int], list[int]]]


# ---------------------------------------------------------------------------------------------------- Delta


def append(settings: Settings, first: int, days: int = 1, count: int = 3) -> None:
    """Append one commit with a file for each day."""
    numbers = range(first, first + days * count)
    rows = [trade_row(number, at=NOON_US + (number - first) // count * DAY) for number in numbers]
    table_io.append_rows(settings, SILVER_TRADES, rows)


def follow(spark: SparkSession, settings: Settings, files: int = 1_000) -> Seen:
    """Read all there is with Spark, so many files a batch: the ids that Spark and our plan see in each batch."""
    checkpoint = Checkpoint(f"{settings.checkpoints}/probe")
    seen: Seen = []

    def process(rows: DataFrame, batch_id: int) -> None:
        planned = batch_plan.delta_files(checkpoint, batch_id, settings, SILVER_TRADES)
        paths = [file.path for file in planned]
        chunks = batch_files.read_chunks(settings, SILVER_TRADES, paths, ("trade_id",))
        ours = [row["trade_id"] for chunk in chunks for row in chunk.to_pylist()]
        assert len(ours) == sum(file.rows for file in planned)
        seen.append((sorted(row["trade_id"] for row in rows.select("trade_id").collect()), sorted(ours)))

    source = (
        spark.readStream.format("delta")
        .option("maxFilesPerTrigger", files)
        .options(**checkpoint.begin_options())
        .load(table_io.table_uri(settings, SILVER_TRADES))
    )
    writer = source.writeStream.option("checkpointLocation", checkpoint.uri).foreachBatch(process)
    writer.trigger(availableNow=True).start().awaitTermination()
    return seen


def assert_same(seen: Seen, *expected: int) -> None:
    assert [ours for _, ours in seen] == [spark for spark, _ in seen]
    assert sorted(number for _, ours in seen for number in ours) == list(expected)


@pytest.mark.spark
@pytest.mark.parametrize("files", [2, 1_000])
def test_files_of_versions_and_parts_of_them(spark: SparkSession, tmp_path: Path, files: int) -> None:
    settings = empty_lake(tmp_path / "a lake, 100% é")
    Checkpoint(f"{settings.checkpoints}/probe").begin_at_creation(0)
    append(settings, 0, days=3)
    append(settings, 9)
    append(settings, 12, days=2)
    assert_same(follow(spark, settings, files), *range(18))
    append(settings, 18, days=4)
    append(settings, 30)
    assert_same(follow(spark, settings, files), *range(18, 33))
    assert follow(spark, settings, files) == []


@pytest.mark.spark
@pytest.mark.parametrize("files", [1, 1_000])
def test_a_snapshot_and_what_came_behind_it(spark: SparkSession, tmp_path: Path, files: int) -> None:
    settings = empty_lake(tmp_path)
    for number in range(4):
        append(settings, number * 6, days=2)
    seen = follow(spark, settings, files)
    assert len(seen) == {1: 8}.get(files, 1)
    assert_same(seen, *range(24))
    append(settings, 24, days=3)
    assert_same(follow(spark, settings, files), *range(24, 33))


@pytest.mark.spark
@pytest.mark.parametrize("is_compacted_first", [True, False])
def test_compaction_adds_nothing(spark: SparkSession, tmp_path: Path, is_compacted_first: bool) -> None:
    settings = empty_lake(tmp_path)
    checkpoint = Checkpoint(f"{settings.checkpoints}/probe")
    checkpoint.begin_at_creation(0)
    for number in range(4):
        append(settings, number * 3)
    if not is_compacted_first:
        assert_same(follow(spark, settings, 2), *range(12))
    DeltaTable(table_io.table_uri(settings, SILVER_TRADES)).optimize.compact()
    append(settings, 12)
    assert_same(follow(spark, settings, 2), *range(0 if is_compacted_first else 12, 15))


@pytest.mark.spark
def test_commits_of_spark_and_a_start_behind_a_version(spark: SparkSession, tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    append(settings, 0)
    version = table_io.open_table(settings, SILVER_TRADES).version()
    Checkpoint(f"{settings.checkpoints}/probe").begin_behind(version, "old")
    uri = table_io.table_uri(settings, SILVER_TRADES)
    spark.read.format("delta").load(uri).selectExpr("* EXCEPT (trade_id)", "trade_id + 3 AS trade_id").write.format(
        "delta"
    ).mode("append").save(uri)
    write_deltalake(uri, pa.Table.from_pylist([trade_row(6)], table_io.arrow_schema(SILVER_TRADES)), mode="append")
    assert_same(follow(spark, settings, 1), 3, 4, 5, 6)


# ---------------------------------------------------------------------------------------------------- Kafka


def read_topics(spark: SparkSession, settings: Settings, starting: str, most: int) -> list[OffsetRange]:
    """Read all there is with Spark; assert that our plan of each batch names the offsets that Spark reads in it."""
    checkpoint = Checkpoint(f"{settings.checkpoints}/probe")
    found: list[OffsetRange] = []

    def process(rows: DataFrame, batch_id: int) -> None:
        ranges = batch_plan.kafka_ranges(checkpoint, batch_id)
        theirs = {(row["topic"], row["partition"], row["offset"]) for row in rows.collect()}
        assert {(one.topic, one.partition, offset) for one in ranges for offset in range(one.first, one.end)} == theirs
        found.extend(ranges)

    source = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.bootstrap())
        .option("subscribe", ",".join(settings.topics))
        .option("startingOffsets", starting)
        .option("maxOffsetsPerTrigger", most)
        .load()
    )
    writer = source.writeStream.option("checkpointLocation", checkpoint.uri).foreachBatch(process)
    query = writer.trigger(availableNow=True).start()
    query.awaitTermination()
    return found


def total(ranges: list[OffsetRange]) -> int:
    return sum(one.end - one.first for one in ranges)


@pytest.mark.spark
@pytest.mark.kafka
def test_offsets_from_the_earliest_and_with_partitions_added(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    symbols = [f"C{number}/USDT" for number in range(12)]
    send(settings, settings.topic_trades, [trade(symbol=symbol, trade_id=n) for symbol in symbols for n in range(5)])
    send(settings, settings.topic_feed_events, [b"x"])
    assert total(read_topics(spark, settings, "earliest", 20)) == 61
    admin = AdminClient({"bootstrap.servers": settings.bootstrap()})
    partitions = len(admin.list_topics().topics[settings.topic_trades].partitions)
    for future in admin.create_partitions([NewPartitions(settings.topic_trades, partitions + 3)]).values():
        future.result()
    send(settings, settings.topic_trades, [trade(symbol=symbol, trade_id=9) for symbol in symbols])
    behind = read_topics(spark, settings, "earliest", 1_000)
    assert total(behind) == 12
    assert {one.partition for one in behind} & set(range(partitions, partitions + 3)), "no message in a new partition"


@pytest.mark.spark
@pytest.mark.kafka
def test_offsets_from_named_ones(spark: SparkSession, kafka_settings: Settings) -> None:
    settings = kafka_settings
    send(settings, settings.topic_rejected, [b"a", b"b", b"c"])
    admin = AdminClient({"bootstrap.servers": settings.bootstrap()})
    numbers = {topic: admin.list_topics(topic).topics[topic].partitions for topic in settings.topics}
    starting = {topic: {str(number): -2 for number in partitions} for topic, partitions in numbers.items()}
    first = next(one for one in read_topics(spark, settings, json.dumps(starting), 100) if one.end == 3)
    assert first == OffsetRange(settings.topic_rejected, first.partition, 0, 3)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda end: end["t"].pop("1"), "found nothing in t/1"),
        (lambda end: end["t"].update({"0": 4}), "an end at 4 in t/0"),
        (lambda end: end.pop("u"), "nothing in u/0"),
    ],
)
def test_a_topic_that_was_deleted_is_an_error(
    tmp_path: Path, spoil: Callable[[dict[str, dict[str, int]]], object], found: str
) -> None:
    checkpoint = Checkpoint(str(tmp_path))
    position = {"t": {"0": 5, "1": 7}, "u": {"0": 0}}
    (tmp_path / "sources/0").mkdir(parents=True)
    (tmp_path / "sources/0/0").write_text("\0v1\n" + json.dumps({"t": {"0": 2, "1": 7}}))
    checkpoint.write("offsets/0", "v1\n{}\n" + json.dumps(position))
    assert batch_plan.kafka_ranges(checkpoint, 0) == [OffsetRange("t", 0, 2, 5)]
    spoil(position)
    checkpoint.write("offsets/1", "v1\n{}\n" + json.dumps(position))
    with pytest.raises(MessagesLostError, match=found.removeprefix("found ")):
        batch_plan.kafka_ranges(checkpoint, 1)


def test_units_are_whole_files_in_order() -> None:
    files = [
        batch_plan.DataFile(name, rows) for name, rows in (("a", 3), ("b", 4), ("c", 9), ("d", 1), ("e", 0), ("f", 7))
    ]
    assert [[file.path for file in unit] for unit in batch_plan.units(files, 8)] == [["a", "b"], ["c"], ["d", "e", "f"]]
    assert [[file.path for file in unit] for unit in batch_plan.units(files, 1)] == [
        ["a"],
        ["b"],
        ["c"],
        ["d", "e"],
        ["f"],
    ]
    assert [[file.path for file in unit] for unit in batch_plan.units(files, 100)] == [["a", "b", "c", "d", "e", "f"]]
    assert list(batch_plan.units([], 8)) == []


def test_files_of_a_partition_are_in_one_list() -> None:
    def listed(*files: tuple[str, str, int, int, int], most: int = 5) -> list[str]:
        given = [
            batch_plan.DataFile(name, rows, batch_plan.Places(topic, first, last))
            for name, topic, first, last, rows in files
        ]
        return ["".join(file.path for file in some) for some in batch_plan.by_places(given, most)]

    files = (("a", "t", 1, 1, 3), ("b", "t", 0, 0, 4), ("c", "t", 0, 0, 4), ("d", "t", 2, 3, 1), ("e", "t", 1, 1, 3))
    assert listed(*files) == ["bc", "ae", "d"]
    assert listed(*files, most=7) == ["bc", "ade"]
    assert listed(*files, most=15) == ["abcde"]
    assert listed(*files, ("f", "t", 1, 2, 1)) == ["bc", "adef"]
    assert listed(*files, ("f", "u", 0, 9, 9)) == ["bc", "ae", "d", "f"]
    unknown = [batch_plan.DataFile("x", 9), batch_plan.DataFile("y", 9, batch_plan.Places("t", 0, 0))]
    assert batch_plan.by_places(unknown, 5) == [unknown]
    assert batch_plan.by_places([], 5) == []


def test_files_that_may_have_rows_of_some_times(tmp_path: Path) -> None:
    """The files of Silver at a version; deltalake cuts the times in their statistics to milliseconds."""
    settings = empty_lake(tmp_path)
    minute = 60_000_000
    first, second, late = (
        appended.append(settings, SILVER_TRADES, [trade_row(n, NOON_US + at) for n, at in enumerate(times)])
        for times in ((0, 1_999), (3 * minute, 5 * minute), (2 * minute, 2 * minute))
    )
    version = table_io.open_table(settings, SILVER_TRADES).version()

    def found(*ranges: tuple[int, int], at: int = version) -> list[str]:
        times = [TimeRange(utc(NOON_US + start), utc(NOON_US + end)) for start, end in ranges]
        files = batch_plan.files_in(settings, SILVER_TRADES, at, times)
        assert {file.rows for file in files} <= {2}
        return sorted(file.path for file in files)

    assert found((1_500, 1_600)) == first
    assert found((4 * minute, 4 * minute + 1)) == second  # between its bounds there may be rows
    assert found((2 * minute, 3 * minute)) == late
    assert found((minute, 2 * minute), (2 * minute, 3 * minute + 1)) == sorted([*second, *late])
    assert found((0, 10 * minute), at=version - 1) == sorted([*first, *second])
    assert found((0, 10 * minute), at=version - 3) == []
    assert found((6 * minute, 7 * minute)) == found() == []


def test_a_file_without_statistics_may_have_rows_of_any_time(tmp_path: Path) -> None:
    settings = empty_lake(tmp_path)
    (path,) = appended.append(settings, SILVER_TRADES, [trade_row(1)])
    log = Path(table_io.table_uri(settings, SILVER_TRADES)) / "_delta_log"
    newest = max(log.glob("*.json"))
    actions = [json.loads(line) for line in newest.read_text().splitlines()]
    for action in actions:
        action.get("add", {}).pop("stats", None)
    newest.write_text("\n".join(map(json.dumps, actions)))
    assert batch_plan.files_in(settings, SILVER_TRADES, int(newest.stem), [TimeRange(utc(0), utc(1))]) == [
        batch_plan.DataFile(path, 0)
    ]
