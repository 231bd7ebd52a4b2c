"""`python -m jobs.shutdown`: end every live run of the instance in DAGSTER_HOME, and let all be relaunched later.

For the end of a whole lakehouse. 1 mark the runs as planned stops, so that the supervisors do not think that a person
canceled them; 2 ask each run to cancel; 3 wait; 4 report the runs that have not ended as canceled, so that they end
themselves. Call it while the code server is up and, preferably, after the daemon was stopped: a running supervisor
relaunches `sensors.supervision_policy.Policy.planned_grace_seconds` after the mark.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from dagster import DagsterInstance, DagsterRun, RunsFilter

from jobs.managed_runs import PLANNED_STOP_TAG
from jobs.run_heartbeat import LIVE

#: Seconds between two looks at the live runs.
POLL_SECONDS = 0.2
#: Seconds that all runs have to end, by default: ingest needs at most 6 to flush, and the caller waits 10.
DEFAULT_SECONDS = 8.0

_log = logging.getLogger(__name__)


def live_runs(instance: DagsterInstance) -> list[DagsterRun]:
    """Return every run of the instance that has not ended, including queued runs."""
    return list(instance.get_runs(RunsFilter(statuses=list(LIVE))))


def end_live_runs(instance: DagsterInstance, seconds: float = DEFAULT_SECONDS) -> tuple[int, int]:
    """End all live runs within `seconds`; return how many there were, and how many had to be reported as canceled."""
    deadline = time.monotonic() + seconds
    asked: set[str] = set()
    while runs := live_runs(instance):
        for run in runs:
            if run.run_id not in asked:
                asked.add(run.run_id)
                _ask(instance, run)
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    for run in runs:
        instance.report_run_canceled(run, "Did not end in time when the lakehouse was stopped.")
    return len(asked), len(runs)


def _ask(instance: DagsterInstance, run: DagsterRun) -> None:
    instance.add_run_tags(run.run_id, {PLANNED_STOP_TAG: f"{time.time():.3f}"})
    try:
        # A queued run is canceled at once, any other by the launcher through its code server.
        instance.run_coordinator.cancel_run(run.run_id)
    except Exception as error:
        # The code server is gone. The run is CANCELING all the same, and ends itself if it still lives.
        _log.info("run %s could not be asked to cancel: %s", run.run_id, error)


def main() -> None:
    """Run `python -m jobs.shutdown`: end the live runs, and print in one line how many there were."""
    parser = argparse.ArgumentParser(prog="python -m jobs.shutdown", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, help="deadline in seconds (default %(default)s)"
    )
    arguments = parser.parse_args()
    with DagsterInstance.get() as instance:
        ended, forced = end_live_runs(instance, arguments.seconds)
    late = f", {forced} of them reported as canceled before they had ended" if forced else ""
    sys.stdout.write(f"{ended} live run(s) ended{late}\n")


if __name__ == "__main__":
    main()
