"""The three streaming queries of one Spark application, declared once and started with any trigger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltalake.exceptions import DeltaError

from lakehouse.continuity.ledger import Ledger
from lakehouse.errors import RetriableError, SettingError, one_line
from lakehouse.lake.lease import Turn
from lakehouse.settings import AVAILABLE_NOW, Settings
from lakehouse.streams import bronze, gold, silver
from lakehouse.streams.batch import BatchContext, BatchResult, Listener
from lakehouse.streams.checkpoints import Checkpoint
from lakehouse.streams.kafka_rows import close_readers
from lakehouse.streams.tasks import Tasks
from lakehouse.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery


#: Trigger of Silver and Gold: they take new rows as soon as they see them, and look as often as the session says.
FOLLOW = "0 seconds"


class BatchFailed(Exception):  # noqa: N818
    """Raised if a batch failed; Spark stops the query and hands the message on."""


def require_layers(layers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the layers, each once, in the order bronze, silver, gold. Raises SettingError if one does not exist."""
    for layer in layers:
        if layer not in LAYERS:
            raise SettingError(f"layer {layer!r}", f"one of {', '.join(LAYERS)} or all")
    return tuple(layer for layer in LAYERS if layer in layers)


@dataclass(frozen=True)
class Started:
    """A started query.

    `idle` does the work that is due without a batch: call it now and then, and once after the query's end. `close`
    gives back what the query holds in this process: call it at the end.
    """

    query: StreamingQuery
    idle: Callable[[], None]
    close: Callable[[], None]


def start_query(
    spark: SparkSession,
    settings: Settings,
    layer: str,
    run_id: str,
    listener: Listener,
    trigger: str,
) -> Started:
    """Start a layer's query. `trigger` is `available-now` (read all, then end) or Bronze's interval (`2 seconds`).

    Raises RetriableError if a disk is full or does not answer.
    """
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]

    try:
        return _start(spark, settings, layer, run_id, listener, trigger)
    except (OSError, DeltaError, Py4JJavaError) as error:
        raise RetriableError(
            f"the {layer} stream cannot start: {one_line(error)}", "space and access", "it can be started again"
        ) from error


def _start(
    spark: SparkSession,
    settings: Settings,
    layer: str,
    run_id: str,
    listener: Listener,
    trigger: str,
) -> Started:
    checkpoint = Checkpoint(f"{settings.checkpoints.rstrip('/')}/{layer}")
    context = BatchContext(
        settings, layer, checkpoint, checkpoint.generation(), checkpoint.pending_batch(), run_id, listener
    )
    source, write, idle, close = _parts(spark, context, layer)

    def process(_: DataFrame, batch_id: int) -> None:
        try:
            with Turn(settings, layer):
                context.run(batch_id, lambda: write(batch_id))
        except Exception as error:
            # Spark runs a recursive regular expression over the message; pages of Java trace overflow its stack.
            raise BatchFailed(one_line(error)) from None

    spark.sparkContext.setLocalProperty("spark.scheduler.pool", layer)
    writer = source.writeStream.queryName(layer).option("checkpointLocation", checkpoint.uri).foreachBatch(process)
    if trigger == AVAILABLE_NOW:
        return Started(writer.trigger(availableNow=True).start(), idle, close)
    return Started(writer.trigger(processingTime=trigger if layer == "bronze" else FOLLOW).start(), idle, close)


def _parts(
    spark: SparkSession, context: BatchContext, layer: str
) -> tuple[DataFrame, Callable[[int], BatchResult], Callable[[], None], Callable[[], None]]:
    """Return a layer's source, its function that writes a batch, and `idle` and `close` of `Started`."""
    tasks = Tasks(context.settings)
    if layer == "bronze":
        read = bronze.read(spark, context)
        return read, lambda number: bronze.write_batch(number, context, tasks), _nothing, close_readers
    if layer == "silver":
        ledger = Ledger(context.settings)
        read = silver.read(spark, context)
        return read, lambda number: silver.write_batch(number, context, ledger, tasks), _nothing, _nothing
    known = gold.Knowledge(context.settings)
    read = gold.read(spark, context)
    return read, lambda number: gold.write_batch(number, context, known, tasks), known.idle, _nothing


def _nothing() -> None:
    """Do nothing: Bronze and Silver have no work without a batch."""
