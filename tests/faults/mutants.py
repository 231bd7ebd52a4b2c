"""The product with one guarantee switched off, by patches put in before it runs. The suite must see each of them.

python -m tests.faults.mutants NAME ingest …      `lakehouse ingest …`, mutated
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

#: Name of the mutant that child processes of a test are to be.
VARIABLE = "FAULTS_MUTANT"


def no_dedup() -> None:
    """Silver appends whatever comes."""
    import numpy as np

    from lakehouse.transforms.batch_ids import BatchIds

    _replace(BatchIds, "within", lambda arrivals, _: np.zeros(arrivals.trades.num_rows, np.bool_))
    _replace(BatchIds, "first", property(lambda arrivals: np.ones(arrivals.trades.num_rows, np.bool_)))


def no_repair() -> None:
    """Ingest sees gaps and does nothing about them."""
    from lakehouse.ingest.gap_repair import GapRepair

    _replace(GapRepair, "order", lambda *_: None)


def no_marks() -> None:
    """Ingest begins anew at each start, as if there had been nothing before."""
    from lakehouse.ingest import resume

    _replace(resume, "read", lambda *_: {})


def no_idempotent_batches() -> None:
    """A batch of Bronze that runs again is written again: its transaction id is another one each time."""
    from lakehouse.streams.batch import BatchContext

    _replace(BatchContext, "app_id", lambda *_: uuid.uuid4().hex)


def no_idempotent_producer() -> None:
    """Kafka takes a message that was sent twice, twice."""
    _configure({"enable.idempotence": False})


def acknowledged_by_one() -> None:
    """A message counts as acknowledged once one broker has it."""
    _configure({"enable.idempotence": False, "acks": 1})


def no_rebuild_mark() -> None:
    """A rebuild of Silver does not say that it has begun."""
    from lakehouse.streams import unfinished

    _replace(unfinished, "begin", lambda *_: None)


def halved_tables() -> None:
    """A rebuild of Silver empties a table before it writes it: two commits, and in between nothing is there."""
    from lakehouse.lake import table_io
    from lakehouse.rebuild.silver import _Rebuild

    write = _Rebuild._write

    def emptied_and_written(self: Any, table: Any) -> None:
        table_io.open_table(self.settings, table).delete()
        write(self, table)

    _replace(_Rebuild, "_write", emptied_and_written)


def old_gold_stream() -> None:
    """After a rebuild of Silver Gold's stream goes on from its old checkpoint."""
    from lakehouse.streams.checkpoints import Checkpoint

    _replace(Checkpoint, "begin_behind", lambda *_, **__: None)


MUTANTS: dict[str, Callable[[], None]] = {
    "no-dedup": no_dedup,
    "no-repair": no_repair,
    "no-marks": no_marks,
    "no-idempotent-batches": no_idempotent_batches,
    "no-idempotent-producer": no_idempotent_producer,
    "acknowledged-by-one": acknowledged_by_one,
    "no-rebuild-mark": no_rebuild_mark,
    "halved-tables": halved_tables,
    "old-gold-stream": old_gold_stream,
}


def apply(name: str | None) -> None:
    """Become a mutant; None or an empty name: stay as it is."""
    if name:
        MUTANTS[name]()


def _replace(owner: Any, name: str, stand_in: Any) -> None:
    getattr(owner, name)  # a name that is gone must end the mutant, not leave it whole
    setattr(owner, name, stand_in)


def _configure(changes: dict[str, Any]) -> None:
    from lakehouse.ingest.producer import KafkaSink

    original = KafkaSink._configuration
    _replace(KafkaSink, "_configuration", lambda *arguments: original(*arguments) | changes)


def pytest_configure() -> None:
    """Make the test run the mutant that the environment names, as a plugin of pytest (`-p tests.faults.mutants`)."""
    apply(os.environ.get(VARIABLE))


def main() -> None:
    """Be `lakehouse`, mutated."""
    from lakehouse.cli import main as lakehouse

    apply(sys.argv[1])
    sys.argv = ["lakehouse", *sys.argv[2:]]
    lakehouse()


if __name__ == "__main__":
    main()
