"""Clients of `/v1/stream` under kills, faults and cuts: in the end each has the exchange's record, each trade once.

    python -m tests.faults.stream_storm --clients 200 --minutes 5          kills of ingest, API, streams and broker
    python -m tests.faults.stream_storm --clients 30 --minutes 1.5 --only ingest,serve

Each client begins at a random moment of the storm and at a random time of the past, or live; it is cut by kills of the
API and by itself, and goes on with the last id that it has. Afterwards all is quiet, and the ids of every client must
be those of the record from its first on, each once, with the record's price, size, side and time.
"""

from __future__ import annotations

import argparse
import bisect
import datetime as dt
import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.broker.ports import free_port
from lakehouse.client import Lake
from lakehouse.id_ranges import IdRanges
from lakehouse.local_stack import child_commands
from lakehouse.market.symbols import MarketKey
from lakehouse.simulator.record import Record, TrueTrade
from tests.faults.admin import Admin
from tests.faults.light_system import END_SECONDS, Kept, LightSystem
from tests.faults.outcome import Outcome
from tests.faults.plan import make_plan
from tests.faults.quiet import quiet
from tests.faults.scenario import EXPECTED, Say, storm
from tests.faults.system import NotReached, end_leftovers, wait_for
from tests.support.stream_client import StreamClient
from tests.support.stream_crowd import Crowd

TARGETS = ("ingest", "serve", "stream-jvm", "broker")
#: Kills and faults a minute.
KILLS_PER_MINUTE, FAULTS_PER_MINUTE = 4.0, 5.0
#: Seconds for the clients to come to the end of the record, once the lake is there.
END_OF_RECORD_SECONDS = 120.0


@dataclass
class Figures:
    """Result of a storm: counts of ids, over all clients, but for the kills and faults."""

    seed: int
    clients: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    trades_made: int = 0
    delivered: int = 0
    repaired: int = 0
    late: int = 0
    gaps_told: int = 0
    reconnects: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    repeated: int = 0
    disordered: int = 0
    not_in_the_record: int = 0
    unlike_the_record: int = 0
    failures: list[str] = field(default_factory=list)


class StreamSystem(LightSystem):
    """The light system and the API."""

    def __init__(self, home: Path, rate: float, targets: Sequence[str]) -> None:
        super().__init__(home, rate)
        self._targets = tuple(targets)
        self.settings = self.settings.model_copy(update={"serve_port": free_port()})

    @property
    def targets(self) -> tuple[str, ...]:
        return self._targets

    def start(self) -> None:
        super().start()
        self._kept["serve"] = Kept(self._spec("serve"))

    def stop(self) -> None:
        serve = self._kept.pop("serve", None)
        if serve is not None and serve.child is not None and serve.child.exit_code() is None:
            serve.child.signal(signal.SIGTERM)
            assert serve.child.wait(END_SECONDS), "the API had not ended after SIGTERM"
        super().stop()
        log = self.settings.home / "logs" / "serve.log"
        assert "Traceback" not in log.read_text(encoding="utf-8"), f"a traceback in {log}"


class Truth:
    """The record of each market in memory, of a market that has halted."""

    def __init__(self, folder: Path, markets: Sequence[MarketKey]) -> None:
        record = Record(folder)
        self.trades: dict[MarketKey, list[TrueTrade]] = {one: list(record.iter(*one)) for one in markets}

    def ids(self, client: StreamClient) -> IdRanges:
        """The ids that a client must have."""
        trades = self.trades[client.market]
        if client.start is not None:
            micros = (client.start - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
            first = bisect.bisect_left(trades, micros, key=lambda trade: trade.ts_event)
        elif client.ids.lowest is not None:
            first = bisect.bisect_left(trades, client.ids.lowest, key=lambda trade: trade.trade_id)
        else:
            first = len(trades)
        return IdRanges((trade.trade_id, trade.trade_id) for trade in trades[first:])


def judge(crowd: Crowd, truth: Truth, figures: Figures) -> None:
    """Compare every client with the record."""
    ends: Counter[str] = Counter()
    for number, client in enumerate(crowd.clients):
        ends += client.ends
        wanted = truth.ids(client)
        missing = wanted.count() - sum(
            client.ids.covers(one, one) for first, last in wanted for one in range(first, last + 1)
        )
        extra = client.ids.count() - (wanted.count() - missing)
        figures.delivered += client.rows
        figures.repaired += client.repaired
        figures.late += client.late
        figures.gaps_told += client.gaps
        figures.missing += missing
        figures.not_in_the_record += extra
        figures.repeated += len(client.repeats)
        figures.disordered += len(client.disordered)
        figures.unlike_the_record += len(client.unlike)
        wrong = {
            "missing": [(first, last) for one in wanted for first, last in client.ids.missing(*one)][:3],
            "repeated": client.repeats[:3],
            "out of order": client.disordered[:3],
            "unlike what others got": client.unlike[:3],
            "messages that nobody knows": client.unknown[:3],
        }
        if any(wrong.values()) or extra:
            what = "; ".join(f"{name} {some}" for name, some in wrong.items() if some)
            figures.failures.append(
                f"client {number} of {' '.join(client.market)} from {client.start}: {what}, {extra} extra"
            )
    for market, trades in truth.trades.items():
        seen = crowd.seen[market]
        for trade in trades:
            got = seen.get(trade.trade_id)
            if got is not None and got != (trade.price, trade.size, trade.side, trade.ts_event):
                figures.unlike_the_record += 1
                figures.failures.append(f"{' '.join(market)} {trade.trade_id} is {got}; expected {trade}")
    figures.trades_made = sum(len(trades) for trades in truth.trades.values())
    figures.clients = len(crowd.clients)
    figures.reconnects = dict(sorted(ends.items()))


def run(
    home: Path,
    seed: int,
    clients: int,
    seconds: float,
    rate: float,
    targets: Sequence[str],
    say: Say,
    kills: int | None = None,
) -> Figures:
    """Do all of it; what failed is in the figures. A folder stays where something failed."""
    figures, outcome = Figures(seed), Outcome(seed, "stream", seconds / 60, rate)
    shutil.rmtree(home, ignore_errors=True)
    system = StreamSystem(home, rate, targets)
    try:
        try:
            say("starting")
            system.start()
            say("trades flow into Gold")
            _live(system, figures, outcome, clients, seconds, say, kills)
        finally:
            say("stopping")
            system.stop()
    except EXPECTED as error:
        figures.failures.append(f"{type(error).__name__}: {error}")
    finally:
        end_leftovers(home)
    figures.kills, figures.faults = outcome.kills, outcome.faults
    if not figures.failures:
        shutil.rmtree(home)
    return figures


def _live(
    system: StreamSystem, figures: Figures, outcome: Outcome, clients: int, seconds: float, say: Say, kills: int | None
) -> None:
    settings = system.settings
    markets = [(venue, symbol) for venue in settings.venues for symbol in settings.symbols]
    crowd = Crowd(settings.api_url, clients, figures.seed, seconds, _earliest(system, markets))
    admin = Admin(system.simulator_url)
    minutes = seconds / 60
    number = round(KILLS_PER_MINUTE * minutes) if kills is None else kills
    plan = make_plan(
        figures.seed,
        seconds,
        system.targets,
        number,
        round(FAULTS_PER_MINUTE * minutes),
        settings.venues,
        settings.symbols,
    )
    try:
        crowd.start()
        storm(system, admin, plan, seconds, outcome, say)
        say("quiet")
        drain = quiet(system, admin, 300.0)
        if drain.left:
            figures.failures.append(f"the lake is not drained: {'; '.join(drain.left[:5])}")
        truth = Truth(child_commands.record_folder(settings), markets)
        say("the clients come to the end")
        wanted = [truth.ids(client) for client in crowd.clients]

        def are_there() -> bool:
            return all(one.rows >= ids.count() for one, ids in zip(crowd.clients, wanted, strict=True))

        try:
            wait_for("every client at the record's end", are_there, END_OF_RECORD_SECONDS, system.look)
        except NotReached as error:
            figures.failures.append(str(error))
        until = time.monotonic() + 5.0
        while time.monotonic() < until:  # a repeat would come now
            system.look()
            time.sleep(0.5)
    finally:
        crowd.stop()
        admin.close()
    judge(crowd, truth, figures)


def _earliest(system: StreamSystem, markets: Sequence[MarketKey]) -> dict[MarketKey, dt.datetime]:
    """A time of each market from which on ingest has heard it."""
    lake, found = Lake.open(system.settings.home), dict[MarketKey, dt.datetime]()

    def all_trade() -> bool:
        for market in markets:
            first = lake.trades(*market).page((), 1).arrow() if market not in found else None
            if first is not None and first.num_rows:
                found[market] = first.column("ts_event")[0].as_py() + dt.timedelta(milliseconds=1)
        return len(found) == len(markets)

    wait_for("trades of every market in Silver", all_trade, 120.0, system.look)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run it once. Exit code 0 where it passed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.stream_storm", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=200, help="(default 200)")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the storm (default 5)")
    parser.add_argument("--rate", type=float, default=250.0, help="trades per second over all markets (default 250)")
    parser.add_argument("--only", default=",".join(TARGETS), help=f"what is killed (default {','.join(TARGETS)})")
    parser.add_argument("--folder", type=Path, default=Path(".lakehouse/faults/stream"))
    options = parser.parse_args(arguments)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)

    home = options.folder.absolute()
    figures = run(home, options.seed, options.clients, options.minutes * 60, options.rate, options.only.split(","), say)
    shown: dict[str, Any] = asdict(figures) | {"failures": figures.failures[:20]}
    print(json.dumps(shown, indent=1))
    print("passed" if not figures.failures else f"FAILED ({len(figures.failures)}); everything is kept in {home}")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
