"""Streams on executors in processes of their own, beside the same streams in one process, on the same topics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import (
    BRONZE_MESSAGES,
    GOLD_BARS_1M,
    GOLD_BARS_5M,
    OPS_BATCHES,
    SILVER_CONTINUITY,
    SILVER_FEED_EVENTS,
    SILVER_QUARANTINE,
    SILVER_TRADES,
    Table,
)
from tests.conftest import SettingsFactory
from tests.support.demo_tools import environment, lakehouse
from tests.support.messages import NEW_YEAR, send, trade, trades

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.spark, pytest.mark.timeout(600)]

#: Two executors of one core each, in processes of their own.
EXECUTORS = "local-cluster[2,1,1024]"

#: Columns in which two runs of the same may differ.
OWN = {"updated_at", "revision", "since", "trades_version"}


def variables(settings: Settings, master: str) -> dict[str, str]:
    return {
        "LAKEHOUSE_HOME": str(settings.home),
        "LAKEHOUSE_BOOTSTRAP_SERVERS": settings.bootstrap(),
        "LAKEHOUSE_TOPIC_TRADES": settings.topic_trades,
        "LAKEHOUSE_TOPIC_REJECTED": settings.topic_rejected,
        "LAKEHOUSE_TOPIC_FEED_EVENTS": settings.topic_feed_events,
        "LAKEHOUSE_SPARK_MASTER": master,
        "LAKEHOUSE_MAX_OFFSETS_PER_TRIGGER": "700",
    }


def catch_up(settings: Settings, master: str, cwd: Path) -> None:
    done = lakehouse(
        "stream", "--trigger", "available-now", cwd=cwd, variables=variables(settings, master), timeout=400
    )
    assert done.returncode == 0, done.stderr[-3_000:]


def rows(settings: Settings, table: Table) -> list[dict[str, object]]:
    names = [name for name in table.column_names if name not in OWN]
    chosen = ", ".join(f'"{name}"' for name in names)
    order = ", ".join(f'"{name}"' for name in table.key)
    found: list[dict[str, object]] = table_io.sql(
        settings, f"SELECT {chosen} FROM t ORDER BY {order}", t=table
    ).to_pylist()
    return found


def catch_up_outside(settings: Settings) -> dict[str, Any]:
    """Catch up on executors, in units of 100 messages; return what `executor_probe` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.executor_probe", "100"],
        env=environment(**variables(settings, EXECUTORS)),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def other(one: dict[str, Any], size: str) -> dict[str, Any]:
    return one | {"size": size}


def vary(some: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [other(one, "5") if one["trade_id"] % 2 else one for one in some]


def parts(settings: Settings) -> Iterator[dict[str, list[Any]]]:
    """Messages by topic, in two parts: repeats and conflicts of neighbours, of other units and of the other part."""
    good = trades(2_000, seed=11)
    near = [one for trade_ in good[:900] for one in [trade_, trade_, other(trade_, "7")][: 1 + trade_["trade_id"] % 3]]
    # Copies a few messages apart in a partition: at every edge of a unit some lie on both sides.
    edges = [one for n in range(900, 1_380, 40) for one in (*good[n : n + 40], *vary(good[n : n + 40]))]
    far = [*good[:50], *(other(one, "8") for one in good[50:90])]
    gap = {"venue": "binance", "event": "gap_opened", "ts_event": NEW_YEAR, "connection_id": "c", "symbol": "BTC/USDT"}
    rejected = [{"venue": "kraken", "reason": "not_json", "raw": "x"}]
    yield {
        settings.topic_trades: [*near, *edges, *far, b"junk", None, trade(price="-1")],
        settings.topic_rejected: rejected,
        settings.topic_feed_events: [gap | {"first_id": 700, "last_id": 800, "detail": ""}, b"junk"],
    }
    again = [*good[200:400], *(other(one, "9") for one in good[400:440])]
    # New trades whose repeats and conflicts are some units behind them, beside repeats of what is known.
    yield {
        settings.topic_trades: [*good[1_380:], *again, *good[1_500:1_700], *(other(one, "6") for one in good[1_700:])]
    }


TABLES = (
    *(BRONZE_MESSAGES, SILVER_TRADES, SILVER_QUARANTINE, SILVER_FEED_EVENTS, SILVER_CONTINUITY),
    *(GOLD_BARS_1M, GOLD_BARS_5M),
)


def test_tables_of_executors_equal_those_of_one_process(
    kafka_settings: Settings, settings_factory: SettingsFactory, tmp_path: Path
) -> None:
    here = kafka_settings
    there = here.model_copy(update={"home": tmp_path / "there"})
    told = 0
    for part in parts(here):
        for topic, values in part.items():
            send(here, topic, values)
        catch_up(here, "local[2]", tmp_path)
        seen = catch_up_outside(there)
        assert_done_by_executors(seen)
        told += sum(files for _, files, _, _ in seen["works"])
    assert told, "no two units had the same id"
    # The second part has trades of minutes of the first, whose parts the new process has not kept.
    assert any(work == "fold_minutes" for work, *_ in seen["works"])
    for table in TABLES:
        assert rows(here, table) == rows(there, table), table.path
    assert len(rows(there, SILVER_TRADES)) == 2_000
    assert counts(here) == counts(there)
    rules = Counter(row["rule"] for row in rows(there, SILVER_QUARANTINE))
    assert rules["conflict"] == conflicting(here)
    audit = lakehouse("audit", cwd=tmp_path, variables=variables(there, EXECUTORS), timeout=120)
    assert audit.returncode == 0, audit.stdout + audit.stderr


def conflicting(settings: Settings) -> int:
    """Count the messages whose size is not that of the first of their id: sizes of one digit are no real ones."""
    sent = [one for part in parts(settings) for one in part[settings.topic_trades] if isinstance(one, dict)]
    return sum(one["size"] in set("56789") for one in sent)


def counts(settings: Settings) -> dict[str, int]:
    """Sums over all batches of Silver."""
    names = ("rows_in", "rows_out", "rows_duplicate", "rows_quarantined", "rows_feed_events")
    sums = ", ".join(f"sum({name}) AS {name}" for name in names)
    return dict(table_io.sql(settings, f"SELECT {sums} FROM b WHERE query = 'silver'", b=OPS_BATCHES).to_pylist()[0])


def assert_done_by_executors(seen: dict[str, Any]) -> None:
    for name in ("land", "refine", "fold_files", "fold_minutes"):
        works = [(process, parent) for work, _, process, parent in seen["works"] if work == name]
        assert len(works) >= (0 if name == "fold_minutes" else 4), name
        assert not {process for process, _ in works} & {seen["driver"], os.getpid()}
        assert all("CoarseGrainedExecutorBackend" in command for _, (_, command) in works)
        if name != "fold_minutes":  # a few minutes are one unit
            assert len({parent for _, (parent, _) in works}) == 2, f"one of the two executors did nothing of {name}"
