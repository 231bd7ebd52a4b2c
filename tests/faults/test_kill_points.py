"""kill -9 exactly between two commits of every query, and between Kafka's word and what ingest makes of it."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from lakehouse.settings import Settings
from tests.faults.hooks import INGEST_POINTS, STREAM_POINTS
from tests.faults.kill_points import ingest_points, stream_points

pytestmark = [pytest.mark.spark, pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.mark.faults  # a start of Spark for each point
@pytest.mark.parametrize("layer", ["bronze", "silver", "gold"])
def test_a_stream_killed_between_any_two_commits_ends_exact(
    spark: SparkSession, kafka_settings: Settings, layer: str
) -> None:
    stream_points(kafka_settings, [point for point in STREAM_POINTS if point.startswith(f"{layer}.")])


def test_ingest_killed_after_kafkas_word_loses_nothing(spark: SparkSession, kafka_settings: Settings) -> None:
    ingest_points(kafka_settings, list(INGEST_POINTS))
