"""The forms in which rows are sent: JSON, CSV, Arrow's IPC stream; and which form a client accepts. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.csv

from lakehouse.serving.problems import Problem

Form = Literal["json", "csv", "arrow"]

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
MEDIA_TYPES: dict[Form, str] = {"json": JSON, "csv": CSV, "arrow": ARROW}


def accepted(accept: str | None) -> Form:
    """Return the form that an Accept header prefers; JSON without a header. Raises Problem if it accepts no form."""
    if not accept or not accept.strip():
        return "json"
    ranges = [_media_range(one) for one in accept.lower().split(",")]
    best: tuple[float, Form] | None = None
    for form, media_type in MEDIA_TYPES.items():
        # The most specific range that matches a type says its quality (RFC 9110, 12.5.1).
        found = max(
            ((_specific(name), quality) for name, quality in ranges if _matches(name, media_type)), default=None
        )
        if found is not None and found[1] > 0 and (best is None or found[1] > best[0]):
            best = found[1], form
    if best is None:
        raise Problem("not-acceptable", f"Accept {accept[:80]!r}; expected one of {', '.join(MEDIA_TYPES.values())}")
    return best[1]


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip() for part in text.split(";"))
    quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return name, min(1.0, max(0.0, float(quality)))
    except ValueError:
        return name, 0.0


def _matches(name: str, media_type: str) -> bool:
    return name in ("*/*", media_type, f"{media_type.split('/')[0]}/*")


def _specific(name: str) -> int:
    return 2 - name.count("*")


#: Rows ready to be written: exact for Arrow, texts for CSV, texts or JSON objects for JSON.
Rows = pa.Table | list[msgspec.Raw]


def write(form: Form, rows: Rows, about: dict[str, Any]) -> bytes:
    """Return rows in a form, as bytes; `about` is put before them in JSON.

    Decimals are JSON strings with every digit; times are ISO 8601 in UTC.
    """
    if form == "json":
        return msgspec.json.encode({**about, "rows": rows if isinstance(rows, list) else rows.to_pylist()})
    assert not isinstance(rows, list)
    sink = pa.BufferOutputStream()
    if form == "csv":
        pyarrow.csv.write_csv(rows, sink)
    else:
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows.combine_chunks())
    body: bytes = sink.getvalue().to_pybytes()
    return body
