"""One error for data files of a table that cannot be read, whichever library reads them.

DataFusion raises a plain Exception or pyarrow's ArrowInvalid if a query fails while it runs, pyarrow's datasets raise
FileNotFoundError, OSError or ArrowInvalid. Only their text tells what went wrong.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.errors import LakehouseError, RetriableError, TerminalError

#: Every error that a table which cannot be read now may raise, whether its log or its data files are the cause.
READ_ERRORS = (LakehouseError, DeltaError, pa.ArrowException, OSError)

#: Words of a failed query that tell that a data file is the cause, and not the query.
_OF_A_FILE = re.compile(r"\b(Parquet|Object Store)( argument)? error")
_FILE = re.compile(r"[^\s:'\"]+\.parquet")
_GONE = re.compile(r"Object at location \S+ not found|No such file")
_COLOUR = re.compile(r"\x1b\[\d*m")
#: The object store's client has given up: no answer in time, or too many requests. A local disk has a name of its own.
_NO_ANSWER = re.compile(r"Generic (?!LocalFileSystem)\w+ error")


class UnreadableVersionError(TerminalError):
    """A version of a table that cannot be read: its log or one of its data files is gone or damaged."""

    def __init__(self, found: str) -> None:
        super().__init__(
            found, "a version whose log and files are still kept", "read the newest; if this is it, it has lost data"
        )


@contextlib.contextmanager
def typed(tables: Iterable[DeltaTable], of_query: bool = True) -> Iterator[None]:
    """Turn the errors of reading data files of `tables` into ours.

    Raises UnreadableVersionError if a file is gone or damaged, RetriableError if the object store does not answer.
    With `of_query`, other errors of a query that has begun (an overflow) raise TerminalError; else the block only
    reads files, and every error is that of a file.
    """
    there = versions(tables)
    try:
        yield
    except (LakehouseError, DeltaError):
        raise
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, pa.ArrowException | OSError):
            raise
        ours = of_file(error, there, of_query)
        raise ours or TerminalError(f"a query failed: {_text(error)[:300]}", "one that runs to its end") from error


def versions(tables: Iterable[DeltaTable]) -> dict[str, int]:
    """Return the path, such as silver/trades, and the version at which each table is open now."""
    return {"/".join(table.table_uri.rstrip("/").rsplit("/", 2)[-2:]): table.version() for table in tables}


def of_file(error: Exception, there: Mapping[str, int], of_query: bool = True) -> LakehouseError | None:
    """Return the error of ours for a data file of one of the tables `there` (`versions`) that cannot be read.

    None if the error came from a query (`of_query`) and names no file as its cause.
    """
    text = _text(error)
    if of_query and not _OF_A_FILE.search(text):
        return None
    file = _FILE.search(text)
    named = [path for path in there if file and f"{path}/" in file[0]] or list(there)
    of = " or ".join(f"version {there[path]} of {path}" for path in named)
    name = file[0].rsplit("/", 1)[-1] if file else "a data file"
    if _NO_ANSWER.search(text):
        return RetriableError(f"{of} cannot be read now ({text[:300]})", "an object store that answers", "try again")
    why = f"{name} is gone" if _GONE.search(text) else f"{name}: {_cause(text)}"
    return UnreadableVersionError(f"{of} cannot be read ({why})")


def _text(error: Exception) -> str:
    return " ".join(_COLOUR.sub("", str(error)).split())


def _cause(text: str) -> str:
    """Return the innermost words of a chain of causes, without the paths before them."""
    return _FILE.split(text)[-1].lstrip("' :")[-200:]
