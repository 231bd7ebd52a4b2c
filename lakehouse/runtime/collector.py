"""Python's garbage collector in a process that runs streams.

Reading Kafka makes some ten thousand objects at a time, all of which go by their reference counts. By default each 700
of them start a collection, and now and then one of all that the process has imported: 4 % of a catch-up's CPU.
"""

from __future__ import annotations

import gc

#: Objects more than there were, for a look at the youngest; and looks at the younger for one at the older.
THRESHOLDS = (100_000, 20, 20)


def collect_seldom() -> None:
    """Cycles are looked for seldom, and never among what is there now: it stays for as long as the process does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
