"""The long-running jobs in process: how errors of the library end a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterInstance, ExecuteInProcessResult, Failure, JobDefinition

from jobs import ingest, stream
from jobs.kept import HEARTBEAT_TAG, NAME_TAG, TERMINAL_TAG
from lakehouse.settings import Settings
from tests.conftest import SettingsFactory


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def run(
    instance: DagsterInstance, job: JobDefinition, settings: Settings, **config: Any
) -> tuple[Failure, dict[str, str]]:
    """The failure that the job ends with, and the run's tags."""
    result: ExecuteInProcessResult = job.execute_in_process(
        run_config={"ops": {job.nodes[0].name: {"config": config}}},
        resources={"settings": settings},
        instance=instance,
        raise_on_error=False,
    )
    assert not result.success
    failure = result.failure_data_for_node(job.nodes[0].name)
    assert failure is not None
    assert failure.user_failure_data is not None
    assert failure.error is not None
    record = instance.get_run_by_id(result.run_id)
    assert record is not None
    assert failure.error.cls_name == "Failure"
    return (
        Failure(failure.user_failure_data.description, allow_retries=failure.user_failure_data.allow_retries),
        dict(record.tags),
    )


def test_a_terminal_error_is_one_line_and_is_recorded(
    instance: DagsterInstance, settings_factory: SettingsFactory
) -> None:
    failure, tags = run(instance, ingest, settings_factory(), venues=["nasdaq"])
    assert failure.description is not None
    assert "nasdaq" in failure.description
    assert "\n" not in failure.description
    assert failure.allow_retries is False
    assert tags[TERMINAL_TAG] == failure.description
    assert (tags[NAME_TAG], bool(tags[HEARTBEAT_TAG])) == ("ingest/nasdaq", True)


def test_a_retriable_error_may_be_retried(instance: DagsterInstance, settings_factory: SettingsFactory) -> None:
    failure, tags = run(instance, ingest, settings_factory())
    assert failure.description is not None
    assert "no Kafka bootstrap servers are set" in failure.description
    assert failure.allow_retries is True
    assert (tags[TERMINAL_TAG], tags[NAME_TAG]) == ("", "ingest")


def test_an_unknown_layer_is_terminal(instance: DagsterInstance, settings_factory: SettingsFactory) -> None:
    failure, tags = run(instance, stream, settings_factory(), layers=["platinum"])
    assert failure.allow_retries is False
    assert "platinum" in tags[TERMINAL_TAG]
