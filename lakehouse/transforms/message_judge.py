"""Stub until the branch of the judge is merged."""
from __future__ import annotations
import pyarrow as pa
def quarantine_rows(messages: pa.Table, verdicts: pa.Table) -> pa.Table:
    raise NotImplementedError
