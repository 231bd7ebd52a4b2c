"""The newest version of an application that a table has taken, by Delta's transaction ids, with few looks at its log.

deltalake reads each commit since the last log checkpoint to tell it, up to 50 files; a batch asks nine times. Here a
process remembers what it was told, for which version of the table, and reads only the commits after that version.
Guarantee: the answer is that of deltalake, of the version at which the table is open, whoever committed.
Source of the entry `txn`: Delta protocol, "Transaction Identifiers".
"""

from __future__ import annotations

import json

from deltalake import DeltaTable, Transaction

from lakehouse.lake.table_log import files_of

#: Most commits that are read one by one; with more, deltalake is asked, which reads them side by side.
MOST_READ = 10

#: (a table's URI, its id, application id) → version of the table, newest version of the application there.
_KNOWN: dict[tuple[str, str, str], tuple[int, int | None]] = {}


def taken(uri: str, table: DeltaTable, app_id: str) -> int | None:
    """Return the newest version of an application that the open table at a URI has taken, None if it has taken none."""
    place, version = (uri, str(table.metadata().id), app_id), table.version()
    known = _KNOWN.get(place)
    if known is None or not 0 <= version - known[0] <= MOST_READ:
        newest = table.transaction_version(app_id)
    else:
        try:
            newest = _newest(uri, known, version, app_id)
        except (OSError, ValueError):  # a commit is no longer there
            newest = table.transaction_version(app_id)
    found = None if newest is None else int(newest)
    _KNOWN[place] = version, found
    return found


def note(uri: str, table: DeltaTable, transaction: Transaction, version: int) -> None:
    """Note that `version` of the table is a commit of this process with a transaction.

    The commit must have been refused if another one came after the version at which the table was open.
    """
    _KNOWN[uri, str(table.metadata().id), transaction.app_id] = version, int(transaction.version)


def _newest(uri: str, known: tuple[int, int | None], version: int, app_id: str) -> int | None:
    """Read the commits after the known one, up to `version`. Raises OSError or ValueError if one cannot be read."""
    newest = known[1]
    for number in range(known[0] + 1, version + 1):
        with files_of(uri).open_input_file(f"_delta_log/{number:020}.json") as file:
            lines = bytes(file.read()).splitlines()
        for action in map(json.loads, filter(None, lines)):
            if action.get("txn", {}).get("appId") == app_id:
                newest = action["txn"]["version"]
    return newest
