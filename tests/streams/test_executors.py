"""Streams on executors in processes of their own, beside the same streams in one process, on the same topics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from lakehouse.tables import BRONZE_MESSAGES, GOLD_BARS_1M, GOLD_BARS_5M, SILVER_QUARANTINE, SILVER_TRADES, Table
from tests.conftest import SettingsFactory
from tests.support.demo_tools import environment, lakehouse
from tests.support.messages import send, trade, trades

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.spark, pytest.mark.timeout(600)]

#: Two executors of one core each, in processes of their own.
EXECUTORS = "local-cluster[2,1,1024]"

#: Columns in which two runs of the same may differ.
OWN = {"updated_at", "revision"}


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


def test_tables_of_executors_equal_those_of_one_process(
    kafka_settings: Settings, settings_factory: SettingsFactory, tmp_path: Path
) -> None:
    here = kafka_settings
    there = here.model_copy(update={"home": tmp_path / "there"})
    good = trades(2_000, seed=11)
    bad = [b"junk", None, trade(price="-1")]
    send(here, here.topic_trades, [*good, *good[:40], *bad])
    send(here, here.topic_rejected, [{"venue": "kraken", "reason": "not_json", "raw": "x"}])
    catch_up(here, "local[2]", tmp_path)
    catch_up(there, EXECUTORS, tmp_path)
    for table in (BRONZE_MESSAGES, SILVER_TRADES, SILVER_QUARANTINE, GOLD_BARS_1M, GOLD_BARS_5M):
        assert rows(here, table) == rows(there, table), table.path
    assert len(rows(there, SILVER_TRADES)) == 2_000
    audit = lakehouse("audit", cwd=tmp_path, variables=variables(there, EXECUTORS), timeout=120)
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_messages_are_landed_by_the_executors_processes(kafka_settings: Settings, tmp_path: Path) -> None:
    settings = kafka_settings
    send(settings, settings.topic_trades, trades(800, seed=5))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.executor_probe"],
        env=environment(**variables(settings, EXECUTORS)),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    processes = {process for process, _ in seen["workers"]}
    assert len(seen["workers"]) >= 8
    assert not processes & {seen["driver"], os.getpid()}
    assert all("CoarseGrainedExecutorBackend" in parent for _, parent in seen["workers"])
    assert len({parent for _, parent in seen["workers"]}) == 2, "one of the two executors did nothing"
    assert not list(Path(table_io.table_uri(settings, BRONZE_MESSAGES)).rglob("*.parquet"))
