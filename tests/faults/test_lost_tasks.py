"""Tasks that run twice, and lost workers' and executors' files, on real executors; `lost_tasks` says what must hold."""

from __future__ import annotations

import pytest

from lakehouse.settings import Settings
from tests.faults.lost_tasks import LOSSES, run

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.kafka, pytest.mark.timeout(900)]


def test_nothing_comes_of_what_lost_tasks_have_written(kafka_settings: Settings) -> None:
    run(kafka_settings, list(LOSSES))
