"""kill -9 of `lakehouse rebuild silver` at every step and at random moments; `rebuild_killed` says what must hold."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from lakehouse.settings import Settings
from tests.faults.hooks import REBUILD_POINTS
from tests.faults.rebuild_killed import run

# Two starts of Spark for each death.
pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.kafka, pytest.mark.timeout(1800)]


def test_a_rebuild_killed_at_any_step_is_ended_by_the_next(spark: SparkSession, kafka_settings: Settings) -> None:
    run(kafka_settings, list(REBUILD_POINTS), moments=0, seed=1, say=print)


def test_a_rebuild_killed_at_any_moment_is_ended_by_the_next(spark: SparkSession, kafka_settings: Settings) -> None:
    run(kafka_settings, [], moments=3, seed=1, say=print)
