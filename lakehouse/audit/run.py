"""One audit, from the snapshot to the verdict."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lakehouse.audit import bars, batches, conservation, gaps, simulated
from lakehouse.audit import snapshot as snapshots
from lakehouse.audit.report import Report, RuleCount, Versions
from lakehouse.audit.snapshot import Snapshot
from lakehouse.errors import BrokerUnavailableError, LakehouseError, TerminalError, one_line
from lakehouse.lake.table_io import bar_tables, open_table, row_count, sql
from lakehouse.lake.unreadable import READ_ERRORS
from lakehouse.quality.id_coverage import TradeIds, ids_of_trades, read_ledger
from lakehouse.quality.message_account import account
from lakehouse.quality.model import count_of
from lakehouse.settings import Settings
from lakehouse.tables import OPS_REPLAYS, SILVER_QUARANTINE, SILVER_TRADES

#: Keys that a sentence names if ids are there more than once.
_NAMED = 3


@dataclass(frozen=True)
class Options:
    """Options of an audit, besides its usual proof.

    With `simulator_url`, Silver is also compared with the simulator's record of its trades. With `strict`, open gaps
    and recorded trades that are not in Silver yet count as faults; with `from_beginning`, recorded trades with ids
    below Silver's first one do. `progress` is called with a line for people, repeatedly while the record is compared.
    """

    simulator_url: str | None = None
    strict: bool = False
    from_beginning: bool = False
    progress: Callable[[str], None] = lambda line: None  # noqa: ARG005


def audit(settings: Settings, options: Options | None = None) -> Report:
    """Compare the tables of one lake, Kafka and ops/batches at one snapshot, and report every fault.

    Raises TerminalError if a table cannot be read, or if no versions of the tables belong together yet.
    """
    with _readable(settings):
        return _audit(settings, options or Options())


def _audit(settings: Settings, options: Options) -> Report:
    started = time.monotonic()
    snapshot = snapshots.take(settings)
    try:
        offsets, broker = conservation.read_offsets(settings), "answered"
    except BrokerUnavailableError as error:
        offsets, broker = {}, f"no answer, offsets are those of ops/batches and the tables ({error.found})"
    accounts = account(settings, snapshot.versions)
    proofs = [conservation.prove(one, offsets.get((one.lineage.topic, one.lineage.partition))) for one in accounts]
    trades = ids_of_trades(settings, snapshot.trades_version)
    id_ledger = read_ledger(settings, snapshot.continuity_version)
    report = Report(
        home=str(settings.home),
        taken_at=snapshot.taken_at,
        seconds=0.0,
        kafka=broker,
        versions=_versions(settings, snapshot),
        partitions=sorted(
            [*proofs, *conservation.unread(offsets, accounts)], key=lambda one: (one.topic, one.partition)
        ),
        silver_rows=trades.rows,
        bars=[bars.prove_bars(settings, snapshot, trades, table, minutes) for table, minutes in bar_tables(settings)],
        holes=gaps.prove_gaps(settings, snapshot, id_ledger, trades),
        quarantine=count_rules(settings, snapshot.versions.quarantine),
        books=[
            batches.prove_bronze(snapshot.bronze_batches, accounts),
            batches.prove_silver(snapshot.silver_batches, accounts),
            batches.prove_gold(snapshot.gold_batches, trades.rows),
        ],
        simulated=simulated.compare(settings, snapshot, options.simulator_url, id_ledger, trades, options.progress)
        if options.simulator_url
        else None,
        messages_not_yet=None,
        rows_not_yet=row_count(open_table(settings, SILVER_TRADES)) - snapshot.trades_rows,
    )
    for one, proof in zip(accounts, proofs, strict=True):
        report.faults += conservation.faults(settings, one, proof)
    if offsets:
        report.messages_not_yet = sum(one.not_yet or 0 for one in report.partitions)
    _judge(report, trades, options)
    report.seconds = round(time.monotonic() - started, 3)
    return report


def count_rules(settings: Settings, version: int) -> list[RuleCount]:
    """Count messages of silver/quarantine at a version by rule, the most frequent first, and those still open now."""
    same = " AND ".join(f"r.{name} = q.{name}" for name in SILVER_QUARANTINE.key)
    rows = sql(
        settings,
        f"""
        SELECT q.rule AS rule, count(*) AS messages, count(*) FILTER (WHERE r.kafka_offset IS NULL) AS open
        FROM quarantine q LEFT JOIN (SELECT DISTINCT {", ".join(SILVER_QUARANTINE.key)} FROM replays) r ON {same}
        GROUP BY q.rule ORDER BY messages DESC, rule
        """,
        quarantine=open_table(settings, SILVER_QUARANTINE, version),
        replays=OPS_REPLAYS,
    ).to_pylist()
    return [RuleCount(**row) for row in rows]


def _judge(report: Report, trades: TradeIds, options: Options) -> None:
    """Collect the faults of all parts, and the notes."""
    if trades.surplus:
        doubled = sorted(trades.doubled.items(), key=lambda item: item[0])[:_NAMED]
        places = ", ".join(f"{' '.join(key)} near id {ids.lowest}" for key, ids in doubled)
        report.faults.append(f"silver/trades: {count_of(trades.surplus, 'row')} beyond one a trade: {places}")
    for faults in (*(one.faults for one in report.bars), report.holes.faults, *(one.faults for one in report.books)):
        report.faults += faults
    if report.holes.total("open") and options.strict:
        ids, gaps_open = count_of(report.holes.total("open"), "id"), count_of(report.holes.total("open_holes"), "gap")
        report.faults.append(f"silver/continuity: {ids} in {gaps_open} open")
    for partition in report.partitions:
        if partition.ahead:
            report.notes.append(
                f"{partition.name}: {count_of(partition.ahead, 'message')} beyond the snapshot in Silver already, by a "
                "batch that was cut and runs again"
            )
    for history in report.books:
        if history.without_row:
            report.notes.append(
                f"ops/batches of {history.query}: {count_of(history.without_row, 'row')} of the table in no batch: one "
                "was killed before its row, and its checkpoint was lost"
            )
    if report.simulated is not None:
        _judge_record(report, options)


def _judge_record(report: Report, options: Options) -> None:
    assert report.simulated is not None
    report.notes += report.simulated.notes
    for market in report.simulated.markets:
        name = f"{market.venue} {market.symbol}"
        report.faults += market.faults
        if market.before_first and options.from_beginning:
            before = count_of(market.before_first, "recorded trade")
            report.faults.append(f"{name}: {before} from before the first in Silver")
        if market.not_yet and options.strict:
            report.faults.append(f"{name}: {count_of(market.not_yet, 'recorded trade')} beyond the last in Silver")


def _versions(settings: Settings, snapshot: Snapshot) -> Versions:
    return Versions(
        snapshot_at=snapshot.gold.committed_at,
        bronze=snapshot.bronze_version,
        trades=snapshot.trades_version,
        quarantine=snapshot.versions.quarantine,
        feed_events=snapshot.versions.feed_events,
        continuity=snapshot.continuity_version,
        bars={table.path: snapshot.gold.version_of(table.path) for table, _ in bar_tables(settings)},
    )


@contextlib.contextmanager
def _readable(settings: Settings) -> Iterator[None]:
    """Turn a failed read (a file that is gone, a version that was vacuumed) into one line."""
    try:
        yield
    except LakehouseError:
        raise
    except READ_ERRORS as error:
        raise TerminalError(f"{settings.lake} cannot be read: {one_line(error)}", "all of its tables") from None
