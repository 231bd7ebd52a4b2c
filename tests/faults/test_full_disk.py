"""A small form of `full_disk`: a table and a checkpoint. `python -m tests.faults.full_disk` has all places."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from lakehouse.lake import table_io
from lakehouse.settings import Settings
from tests.faults.full_disk import run
from tests.support.small_disk import can_mount

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.mark.skipif(not can_mount(), reason="a tmpfs cannot be mounted here")
def test_a_full_disk_ends_exact(spark: SparkSession, kafka_settings: Settings) -> None:
    table_io.ensure_tables(kafka_settings)
    run(kafka_settings, ["silver/trades", "checkpoints/silver"], batches=3)
