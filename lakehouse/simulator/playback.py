"""Recorded frames, sent again to the clients of their venue.

Guarantee: a venue's frames are sent byte for byte, in file order, once per server start, and only while at least one
subscribed client is connected and the simulator is not paused; the original spacing is kept up to `speed`. Several
clients at once get the same frames; a later one gets only what is left. Limit: frames in flight when a client dies are
not sent again, and a replayed venue has no REST history.

File format: `URL <-> ts` (connected), `URL <- ts: json` (sent by the client), `ts: json` (received), blank lines; times
are float seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from lakehouse.errors import SettingError
from lakehouse.settings import VENUES
from lakehouse.simulator.faults.model import Frame

#: A client that has so many bytes unread is waited for (a playback, unlike a market, can wait).
BUFFER_BYTES = 1024 * 1024
WAIT_SECONDS = 0.01
#: At full speed, so many frames go out before other work gets its turn.
FRAMES_PER_TURN = 64


@dataclass(frozen=True)
class Recording:
    """A recorded file and what its first lines tell."""

    path: Path
    venue: str
    url: str

    def frames(self, on_bad_line: Callable[[], None] = lambda: None) -> Iterator[tuple[float, bytes]]:
        """(seconds, frame) of every received frame, in file order, read as needed."""
        with self.path.open("rb") as file:
            for line in file:
                left, separator, right = line.rstrip(b"\r\n").partition(b": ")
                if b" <-" in left or not left.strip():
                    continue
                try:
                    at = float(left)
                except ValueError:
                    separator = b""
                if separator and right:
                    yield at, right
                else:
                    on_bad_line()


def open_recording(path: Path) -> Recording:
    """Look at a recorded file. Raises SettingError if it cannot be read or is none of a known venue."""
    url = ""
    try:
        with path.open("rb") as file:
            for line in file:
                url, _, rest = line.decode("utf-8", "replace").partition(" ")
                if rest.startswith("<-"):
                    break
                if line.strip():
                    url = ""
                    break
    except OSError as error:
        raise SettingError(f"replay file {path}: {error.strerror}") from None
    host = urlsplit(url).hostname or ""
    for venue in VENUES:
        if venue in host:
            return Recording(path, venue, url)
    found = f"the address {url!r}" if url else "no address"
    raise SettingError(
        f"replay file {path} begins with {found}", f"a line `URL <-> time` with a host of {', '.join(VENUES)}"
    )


class Listener(Protocol):
    """A playback's view of a client's connection."""

    outbox: list[Frame]

    @property
    def venue(self) -> str:
        """The venue that the client speaks to."""

    @property
    def subscribed(self) -> bool:
        """True after a subscription was accepted."""

    @property
    def is_open(self) -> bool:
        """True from the handshake until either side closes."""

    @property
    def buffered(self) -> int:
        """Bytes that the client has not taken yet."""

    def flush(self) -> None:
        """Send what is waiting in `outbox`."""


class Audience(Protocol):
    """The clients of a playback: the exchange."""

    @property
    def paused(self) -> bool:
        """True if nothing may be sent now."""

    @property
    def listeners(self) -> Iterable[Listener]:
        """All connections, of any venue."""


class Playback:
    """The recordings of one venue, one after the other."""

    def __init__(self, recordings: Sequence[Recording], speed: float) -> None:
        self.recordings = list(recordings)
        self.speed = speed
        self.ended = False
        self._sent = [0] * len(self.recordings)
        self._bad = [0] * len(self.recordings)
        self._finished = 0

    def status(self) -> list[dict[str, Any]]:
        """A line a file for `/admin/status`."""
        return [
            {
                "venue": r.venue,
                "file": r.path.name,
                "frames_sent": sent,
                "bad_lines": bad,
                "ended": place < self._finished,
            }
            for place, (r, sent, bad) in enumerate(zip(self.recordings, self._sent, self._bad, strict=True))
        ]

    async def run(self, audience: Audience) -> None:
        """Send everything; then the connections stay open and quiet."""
        for place, recording in enumerate(self.recordings):
            await self._play(audience, place, recording)
            self._finished += 1
        self.ended = True

    async def _play(self, audience: Audience, place: int, recording: Recording) -> None:
        def count_bad() -> None:
            self._bad[place] += 1

        clock = asyncio.get_running_loop().time
        # Where the file's time stands on our clock; moved on while nobody listens.
        start: float | None = None
        for at, payload in recording.frames(count_bad):
            waited_from = clock()
            listeners = await self._listeners(audience, recording.venue)
            if self.speed:
                if start is None:
                    start = clock() - at / self.speed
                start += max(0.0, clock() - waited_from - WAIT_SECONDS)
                while (delay := start + at / self.speed - clock()) > 0:
                    await asyncio.sleep(delay)
                    listeners = await self._listeners(audience, recording.venue)
            elif self._sent[place] % FRAMES_PER_TURN == 0:
                await asyncio.sleep(0)
                listeners = await self._listeners(audience, recording.venue)
            frame = Frame(payload, "replay")
            self._sent[place] += 1
            for listener in listeners:
                listener.outbox.append(frame)
                listener.flush()

    async def _listeners(self, audience: Audience, venue: str) -> list[Listener]:
        """The subscribed clients, when there is one, none has much unread, and the simulator is not paused."""
        while True:
            found = [s for s in audience.listeners if s.venue == venue and s.subscribed and s.is_open]
            if found and not audience.paused and all(s.buffered < BUFFER_BYTES for s in found):
                return found
            await asyncio.sleep(WAIT_SECONDS)


def build_playbacks(files: Sequence[Path], speed: float) -> dict[str, Playback]:
    """Venue → playback of its files, in the order given. Raises SettingError for a file that cannot be replayed."""
    by_venue: dict[str, list[Recording]] = {}
    for file in files:
        recording = open_recording(file)
        by_venue.setdefault(recording.venue, []).append(recording)
    return {venue: Playback(recordings, speed) for venue, recordings in by_venue.items()}
