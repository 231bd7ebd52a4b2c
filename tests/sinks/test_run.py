"""A follower of a sink: which outages it tells, and how long it waits."""

from __future__ import annotations

from lakehouse.errors import RetriableError
from lakehouse.sinks.run import LONGEST_WAIT_SECONDS, Follower, Held


class Store:
    """A sink that fails with the errors that it is given, one a look, and works without one."""

    every = 2.0

    def __init__(self, *errors: RetriableError | None) -> None:
        self._errors = list(errors)

    def look(self) -> dict[str, int]:
        error = self._errors.pop(0)
        if error is not None:
            raise error
        return {"1m": 1}

    def held(self) -> dict[str, Held]:
        return {}

    def rows(self) -> int:
        return 0

    def trouble(self) -> str:
        return ""

    def lacks(self, seconds: float) -> str:
        return f"nothing within {seconds} s"

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""


def test_an_outage_is_told_when_it_begins_when_its_cause_changes_and_when_it_ends() -> None:
    said: list[str] = []
    beside = RetriableError("written by another sink")
    down = [RetriableError(f"no answer (try {number})") for number in range(7)]
    follower = Follower(Store(None, beside, *down, None, down[0], None), said.append)
    waits = []
    for _ in range(12):
        follower.look()
        waits.append(follower.wait)
    assert [line.partition(";")[0] for line in said] == [
        "written by another sink",
        "no answer (try 0)",
        "answers again",
        "no answer (try 0)",
        "answers again",
    ]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[8] == LONGEST_WAIT_SECONDS
    assert waits[-1] == 2.0
