"""The recorded lake of `record_lake`, unpacked into a home."""

from __future__ import annotations

import base64
import json
import shutil
import tarfile
from pathlib import Path

from tests.support.record_lake import STOPS, Message, Sent


def from_line(line: str) -> Sent:
    """The message of a line that `to_line` wrote."""
    fields = json.loads(line)
    value = None if fields["value"] is None else base64.b64decode(fields["value"])
    message = Message(fields["stage"], fields["topic"], fields["key"], value, fields["expected"])
    return Sent(message, fields["partition"], fields["offset"], fields["ts_kafka"])


def unpack(archive: Path, home: Path, stop: str) -> list[Sent]:
    """Make a home from the archive, with the lake of one of STOPS; return the messages that are in its Kafka."""
    with tarfile.open(archive) as tar:
        tar.extractall(home, filter="data")
    for name in ("lake", "checkpoints"):
        (home / stop / name).rename(home / name)
    for other in STOPS:
        shutil.rmtree(home / other)
    return [from_line(line) for line in (home / "messages.jsonl").read_text(encoding="utf-8").splitlines()]
