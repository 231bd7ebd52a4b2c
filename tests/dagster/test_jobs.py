"""The long-running jobs in process: how errors of the library end a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterInstance, Failure, JobDefinition

from assets.failures import one_line_failures
from jobs import ingest, stream
from jobs.managed_runs import HEARTBEAT_TAG, NAME_TAG, TERMINAL_TAG
from lakehouse.errors import BrokerUnavailableError, LakehouseError, SettingError
from lakehouse.settings import Settings
from tests.conftest import SettingsFactory


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def run(instance: DagsterInstance, job: JobDefinition, settings: Settings, **config: Any) -> tuple[str, dict[str, str]]:
    """The error that the job failed with, and its run's tags."""
    node = job.nodes[0].name
    result = job.execute_in_process(
        run_config={"ops": {node: {"config": config}}},
        resources={"settings": settings},
        instance=instance,
        raise_on_error=False,
    )
    failure = result.failure_data_for_node(node)
    assert failure is not None
    assert failure.user_failure_data is not None  # a dagster.Failure, not a bug's trace
    record = instance.get_run_by_id(result.run_id)
    assert record is not None
    return failure.user_failure_data.description or "", dict(record.tags)


def test_a_terminal_error_is_one_line_and_is_recorded(
    instance: DagsterInstance, settings_factory: SettingsFactory
) -> None:
    line, tags = run(instance, ingest, settings_factory(), venues=["nasdaq"])
    assert "nasdaq" in line
    assert "\n" not in line
    assert tags[TERMINAL_TAG] == line
    assert (tags[NAME_TAG], bool(tags[HEARTBEAT_TAG])) == ("ingest/nasdaq", True)


def test_a_retriable_error_is_not_recorded_as_terminal(
    instance: DagsterInstance, settings_factory: SettingsFactory
) -> None:
    line, tags = run(instance, ingest, settings_factory())
    assert "no Kafka bootstrap servers are set" in line
    assert (tags[TERMINAL_TAG], tags[NAME_TAG]) == ("", "ingest")


def test_an_unknown_layer_is_terminal(instance: DagsterInstance, settings_factory: SettingsFactory) -> None:
    line, tags = run(instance, stream, settings_factory(), layers=["platinum"])
    assert "platinum" in line
    assert tags[TERMINAL_TAG] == line


@pytest.mark.parametrize(
    ("error", "retries"), [(BrokerUnavailableError("no broker"), True), (SettingError("no"), False)]
)
def test_only_retriable_errors_allow_retries(error: LakehouseError, retries: bool) -> None:
    with pytest.raises(Failure) as caught, one_line_failures():
        raise error
    assert (caught.value.description, caught.value.allow_retries) == (str(error), retries)
