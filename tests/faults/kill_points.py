"""kill -9 exactly between two commits, and after it a normal start that must end in exact tables.

    python -m tests.faults.kill_points                    every point, on a Kafka of its own; some minutes
    python -m tests.faults.kill_points --only silver      those of one part

Each point is a process that runs the real command with a hook (`hooks`) and dies in it. The points of one run share a
lake, so that each finds what the one before left behind; after each death the tables are looked at without a JVM.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lakehouse.broker.embedded import EmbeddedBroker
from lakehouse.broker.topics import ensure_topics
from lakehouse.continuity.gaps import marks
from lakehouse.id_ranges import IdRanges
from lakehouse.lake.table_io import sql
from lakehouse.quality.checks import run_checks
from lakehouse.settings import Settings, load_settings
from lakehouse.simulator.options import SimulatorOptions
from lakehouse.simulator.record import TrueTrade
from lakehouse.simulator.server import SimulatorServer
from lakehouse.tables import BRONZE_MESSAGES, OPS_BATCHES, SILVER_CONTINUITY
from tests.faults import mutants
from tests.faults.hooks import INGEST_POINTS, POINTS, STREAM_POINTS
from tests.faults.system import child_variables, wait_for
from tests.support.messages import NEW_YEAR, send, trade, trades
from tests.support.truth import assert_bars_equal_fold, assert_silver_equals_record, iter_silver, silver_keys

#: A start of Spark and a batch of each layer, on two cores that other work shares.
CHILD_SECONDS = 180.0
#: Trades of each round; ids rise by round, so that there are gaps between the rounds.
ROUND_TRADES = 120
ROUND_IDS = 1_000
ROUND_MICROS = 90_000_000
RATE = 300.0


class Rounds:
    """Messages before each point: new trades, repeats, a conflict, unreadable ones, feed events."""

    def __init__(self, settings: Settings) -> None:
        self.good: list[dict[str, Any]] = []
        self._settings = settings
        self._rng = random.Random(4)
        self._number = 0

    def send_next(self) -> None:
        """Send one round."""
        self._number += 1
        start = NEW_YEAR + self._number * ROUND_MICROS
        new = trades(ROUND_TRADES, self._number, self._number * ROUND_IDS, start, ROUND_MICROS // ROUND_TRADES)
        known = [*self.good, *new]
        again = self._rng.sample(known, min(20, len(known)))
        other_price = trade(**{**self._rng.choice(known), "price": "0.5"})
        send(self._settings, self._settings.topic_trades, [*new, *again, other_price, b"junk", trade(price="-1")])
        rejected = {"venue": "kraken", "reason": "not_json", "detail": "x", "raw": "x", "ts_ingest": NEW_YEAR}
        event = {"venue": "binance", "event": "connected", "ts_event": NEW_YEAR, "connection_id": "c", "detail": ""}
        send(self._settings, self._settings.topic_rejected, [rejected])
        send(self._settings, self._settings.topic_feed_events, [event])
        self.good += new

    @property
    def truth(self) -> list[TrueTrade]:
        """Every good trade, once, by key."""
        from decimal import Decimal

        rows = [
            TrueTrade(
                one["venue"],
                one["symbol"],
                one["trade_id"],
                Decimal(one["price"]),
                Decimal(one["size"]),
                one["side"],
                one["ts_event"],
            )
            for one in self.good
        ]
        return sorted(rows, key=lambda row: row[:3])


def die_at(point: str, settings: Settings, *command: str, seconds: float = CHILD_SECONDS) -> None:
    """Run `lakehouse COMMAND…` with the point's hook until it dies there. AssertionError if it lives on too long."""
    log = settings.home / f"{point}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.kill_points", "--at", point, *command],
            env=child_variables(settings.environment(), settings.home),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise AssertionError(f"{point}: not reached within {seconds:g} s; see {log}") from None
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    assert code == -signal.SIGKILL, f"{point}: ended with {code} instead of dying in its hook: {' / '.join(words)}"


def stream_points(settings: Settings, points: Sequence[str], say: Any = print) -> None:
    """Every point of the streams on one lake, then a catch-up in this process. AssertionError where tables differ."""
    from lakehouse.streams.materialize import materialize
    from lakehouse.tables import LAYERS

    rounds = Rounds(settings)
    for point in points:
        began = time.monotonic()
        layer = point.partition(".")[0]
        rounds.send_next()
        # The layers before it catch up here, where Spark is warm; what its own has left behind is for the child.
        if before := LAYERS[: LAYERS.index(layer)]:
            materialize(settings, before)
        die_at(point, settings, "stream", layer, "--trigger", "available-now")
        assert_nothing_wrong_so_far(settings, rounds.truth, point)
        say(f"{point}: killed after {time.monotonic() - began:.0f} s")
    rounds.send_next()
    materialize(settings)
    assert_exact(settings, rounds.truth)


def ingest_points(settings: Settings, points: Sequence[str], say: Any = print) -> None:
    """Every point of ingest against a simulator, then a normal ingest and a catch-up. Settings: no simulator yet."""
    from lakehouse.ingest.service import IngestService
    from lakehouse.streams.materialize import materialize

    record = settings.home / "simulator" / "record"
    with SimulatorServer(SimulatorOptions(record=record, rate=RATE, symbols=settings.symbols)) as simulator:
        settings = settings.model_copy(update={"simulator_url": simulator.url})
        for point in points:
            began = time.monotonic()
            die_at(point, settings, "ingest")
            say(f"{point}: killed after {time.monotonic() - began:.0f} s")
        service = IngestService(settings)
        service.start()
        try:
            wait_for("every symbol subscribed", lambda: service.settled, 30.0, service.check)
            time.sleep(3.0)  # with what was missed found and asked for, and every symbol trading again
            simulator.pause()
            wait_for("no gap left", lambda: _is_whole(settings, simulator), 60.0, service.check)
        finally:
            assert service.stop(15.0) == 0
        materialize(settings)
    assert_silver_equals_record(settings, record, from_first_seen=True)
    for minutes in (1, 5):
        assert_bars_equal_fold(settings, minutes)
    _assert_checks(settings)
    repaired = sql(settings, "SELECT coalesce(sum(repaired), 0) AS n FROM t", t=SILVER_CONTINUITY).to_pylist()[0]["n"]
    assert repaired > 0, "what was traded while ingest was dead must have come over REST"


def _is_whole(settings: Settings, simulator: SimulatorServer) -> bool:
    """Return whether Kafka holds every id from each symbol's first to the exchange's newest."""
    from tests.support.ingest_tools import messages

    held: dict[tuple[str, str], IdRanges] = {}
    for _, value in messages(settings.bootstrap(), settings.topic_trades):
        held.setdefault((value["venue"], value["symbol"]), IdRanges()).add(value["trade_id"], value["trade_id"])
    newest = {(one["venue"], one["symbol"]): one["last_id"] for one in simulator.status()["markets"] if one["last_id"]}
    return all(
        key in held and (lowest := held[key].lowest) is not None and held[key].covers(lowest, last)
        for key, last in newest.items()
    )


def assert_nothing_wrong_so_far(settings: Settings, truth: Sequence[TrueTrade], point: str) -> None:
    """After a death tables may lack rows; none may be wrong, none may be there twice. Without a JVM."""
    doubles = 'SELECT count(*) AS n FROM (SELECT 1 FROM b GROUP BY topic, "partition", "offset" HAVING count(*) > 1)'
    assert sql(settings, doubles, b=BRONZE_MESSAGES).to_pylist()[0]["n"] == 0, f"{point}: messages twice in Bronze"
    known = set(truth)
    silver = [row for key in silver_keys(settings) for row in iter_silver(settings, *key)]
    assert len(silver) == len({row[:3] for row in silver}), f"{point}: trades twice in Silver"
    wrong = [row for row in silver if row not in known]
    assert not wrong, f"{point}: wrong trades in Silver, the first {wrong[0]}"


def assert_exact(settings: Settings, truth: list[TrueTrade]) -> None:
    """Silver is the truth, Gold its fold, the ledger its ids, ops/batches one row a batch, every check passes."""
    assert [row for key in silver_keys(settings) for row in iter_silver(settings, *key)] == truth
    for minutes in (1, 5):
        assert_bars_equal_fold(settings, minutes, truth)
    wanted: dict[tuple[str, str], IdRanges] = {}
    for one in truth:
        wanted.setdefault((one.venue, one.symbol), IdRanges()).add(one.trade_id, one.trade_id)
    rows = sql(settings, "SELECT * FROM t WHERE state = 'present'", t=SILVER_CONTINUITY).to_pylist()
    held: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in rows:
        held.setdefault((row["venue"], row["symbol"]), []).append((row["first_id"], row["last_id"]))
    assert {key: sorted(ranges) for key, ranges in held.items()} == {key: list(ids) for key, ids in wanted.items()}
    assert {key: mark.trade_id for key, mark in marks(settings).items()} == {
        key: ids.highest for key, ids in wanted.items()
    }
    twice = "SELECT query, batch_id FROM t GROUP BY query, generation, batch_id HAVING count(*) > 1"
    assert sql(settings, twice, t=OPS_BATCHES).to_pylist() == [], "a batch with two rows in ops/batches"
    # The rounds leave gaps between their ids, and bad messages, on purpose.
    _assert_checks(settings, frozenset({"no_old_holes", "quarantine_settled"}))


def _assert_checks(settings: Settings, tolerated: frozenset[str] = frozenset()) -> None:
    failed = [
        f"{check.table_path} {check.name}: {result.detail}"
        for check, result in run_checks(settings)
        if not result.passed and check.name not in tolerated
    ]
    assert not failed, "; ".join(failed)


def main(arguments: list[str] | None = None) -> int:
    """With `--at POINT`: be the process that dies. Else run every point."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill_points", description="kill -9 between commits.")
    parser.add_argument("--at", choices=list(POINTS), help="die at this point of the command that follows")
    parser.add_argument("--only", help="only points whose names begin so")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a lakehouse command, with --at")
    options = parser.parse_args(arguments)
    mutants.apply(os.environ.get(mutants.VARIABLE))
    if options.at:
        from lakehouse.cli import main as lakehouse

        POINTS[options.at]()
        sys.argv = ["lakehouse", *options.command]
        lakehouse()
        return 0
    wanted = options.only or ""
    with tempfile.TemporaryDirectory(prefix="kill-points-") as folder:
        home = Path(folder)
        with EmbeddedBroker(load_settings(home=home / "kafka")) as broker:
            for name, points, run in (
                ("stream", STREAM_POINTS, stream_points),
                ("ingest", INGEST_POINTS, ingest_points),
            ):
                chosen = [point for point in points if point.startswith(wanted)]
                topics = {f"topic_{kind}": f"{name}-{kind}" for kind in ("trades", "rejected", "feed_events")}
                settings = load_settings(home=home / name, bootstrap_servers=broker.bootstrap, **topics)
                if chosen:
                    ensure_topics(settings)
                    run(settings, chosen)
                    print(f"{name}: {len(chosen)} points, every table exact")
    return 0


if __name__ == "__main__":
    sys.exit(main())
