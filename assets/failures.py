"""Turn errors of the library into Dagster failures: one line that says what to do, and whether a retry makes sense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import Failure

from lakehouse.errors import LakehouseError, TerminalError


@contextmanager
def one_line_failures() -> Iterator[None]:
    """Turn a LakehouseError that the block raises into a `dagster.Failure` with the error's one line.

    The failure allows no retries if it was a TerminalError. Errors that are not LakehouseErrors are bugs and keep their
    stack trace.
    """
    try:
        yield
    except LakehouseError as error:
        raise Failure(description=str(error), allow_retries=not isinstance(error, TerminalError)) from None
