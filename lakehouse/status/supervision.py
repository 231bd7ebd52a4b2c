"""State of ingest, the streams and the sinks, by Dagster's GraphQL API: running, or stopped and by whom.

Read over HTTP, so the library needs no Dagster. Source: Dagster's GraphQL schema, `runsOrError` and `sensorOrError`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from lakehouse.settings import Settings
from lakehouse.sinks.stores import STORES
from lakehouse.tables import LAYERS as LAYERS

#: Tags of a Dagster run. The first has the name of the managed work that the run does. The second has the time, in
#: seconds since the epoch, at which the run was ended together with its lakehouse, and not by a person for good.
NAME_TAG = "lakehouse/stream"
PLANNED_STOP_TAG = "lakehouse/planned_stop"
#: Tag with what a run waits for although it runs, such as a store that does not answer; empty if nothing.
TROUBLE_TAG = "lakehouse/trouble"

#: Dagster's names of our code: the location of workspace.yaml, and the repository of an unnamed `Definitions`.
LOCATION, REPOSITORY = "lakehouse", "__repository__"

#: Seconds that Dagster's webserver has to answer: a local one needs 0.05, a busy one some tenths.
ANSWER_SECONDS = 3.0

#: Number of the newest runs to look at: more than one, because a run launched by hand waits for the one that runs.
RUNS = 5

_ENDED_BY_HAND = ("CANCELED", "SUCCESS")
_LIVE = {"STARTED": "running", "CANCELING": "stopping"}

_RUNS = """runsOrError(filter: {tags: [{key: "%s", value: "%s"}]}, limit: %d) {
  ... on Runs {results {runId status creationTime endTime tags {key value}}}}"""
_SENSOR = """sensorOrError(sensorSelector: {repositoryName: "%s", repositoryLocationName: "%s",
  sensorName: "keep_%s_running"}) {... on Sensor {sensorState {status}}}"""


@dataclass(frozen=True)
class Work:
    """One managed run, by `name` such as `ingest`, and its state in words for people.

    `by_hand`: a person stopped it, or turned off the sensor that would start it again.
    """

    name: str
    state: str
    by_hand: bool = False


def work_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the managed runs that the settings ask for, such as `ingest` (`jobs.managed_runs`)."""
    ingests = tuple(f"ingest/{venue}" for venue in settings.venues) if settings.split_ingest else ("ingest",)
    streams = tuple(f"stream/{layer}" for layer in LAYERS) if settings.split_streams else ("stream",)
    return (*ingests, *streams, *(store.job for store in STORES if store.is_wanted(settings)))


def was_planned(planned_stop_at: float | None, created_at: float) -> bool:
    """Return True if a run was stopped together with its lakehouse; both times are seconds since the epoch.

    `planned_stop_at` is the value of the run's PLANNED_STOP_TAG, None without one. A time before the run's creation was
    copied from the run that it re-executes, and does not count.
    """
    return planned_stop_at is not None and planned_stop_at >= created_at


def seconds_of(tags: Mapping[str, str], tag: str) -> float | None:
    """Return a tag's value as seconds since the epoch; None if the tag is missing, empty or not a number."""
    with contextlib.suppress(ValueError):
        return float(tags.get(tag, ""))
    return None


def read_works(settings: Settings) -> tuple[Work, ...]:
    """Return the present state of every managed run; empty if no Dagster answers at the settings' address.

    A sink that these settings do not ask for is included only if it runs or has failed: Dagster may know its URL.
    """
    wanted = work_names(settings)
    sinks = tuple(store.job for store in STORES)
    names = (*(name for name in wanted if name not in sinks), *sinks)
    parts = [f"run{number}: {_RUNS % (NAME_TAG, name, RUNS)}" for number, name in enumerate(names)]
    jobs = dict.fromkeys(name.partition("/")[0] for name in names)
    parts += [f"{job}: {_SENSOR % (REPOSITORY, LOCATION, job)}" for job in jobs]
    # A wildcard address is where Dagster listens, not where it is reached.
    host = "127.0.0.1" if settings.dagster_host in ("0.0.0.0", "::") else settings.dagster_host
    try:
        answer = httpx.post(
            f"http://{host}:{settings.dagster_port}/graphql",
            json={"query": "{" + "\n".join(parts) + "}"},
            timeout=ANSWER_SECONDS,
            trust_env=False,
        )
        data = answer.json()["data"]
        runs = {name: data[f"run{number}"].get("results", []) for number, name in enumerate(names)}
        return tuple(
            _work(name, found, data[name.partition("/")[0]])
            for name, found in runs.items()
            if name in wanted or (found and (found[0]["status"] in _LIVE or found[0]["status"] == "FAILURE"))
        )
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ()


def _work(name: str, runs: list[dict[str, Any]], sensor: dict[str, Any]) -> Work:
    off = sensor.get("sensorState", {}).get("status") == "STOPPED"
    sensor_name = f"keep_{name.partition('/')[0]}_running"
    live = next((run for run in runs if run["status"] in _LIVE), None)
    if live:
        trouble = next((tag["value"] for tag in live["tags"] if tag["key"] == TROUBLE_TAG), "")
        state = _LIVE[live["status"]] + (f", but {trouble}" if trouble else "")
        return Work(name, f"{state}; its sensor {sensor_name} is turned off" if off else state)
    if off:
        return Work(name, f"stopped by hand: the sensor {sensor_name} is turned off; turn it on to resume", True)
    if not runs:
        return Work(name, "not started yet")
    run = runs[0]
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    if run["status"] in _ENDED_BY_HAND and not was_planned(seconds_of(tags, PLANNED_STOP_TAG), run["creationTime"]):
        ended = f" at {datetime.fromtimestamp(run['endTime'], UTC):%H:%M:%S} UTC" if run["endTime"] else ""
        job = name.partition("/")[0]
        return Work(name, f"stopped by hand{ended}, run {run['runId'][:8]}; launch the job {job} to resume", True)
    return Work(name, "failed, will be started again" if run["status"] == "FAILURE" else "starting")
