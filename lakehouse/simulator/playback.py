"""Play recorded WebSocket frames: send them again to the clients of their venue.

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

#: A playback waits while a client has this many bytes unread (unlike a market, it can wait).
BUFFER_BYTES = 1024 * 1024
WAIT_SECONDS = 0.01
#: At full speed, so many frames go out before other work gets its turn.
FRAMES_PER_TURN = 64


@dataclass(frozen=True)
class Recording:
    """A recorded file, its venue, and `url`, the address that the recorder connected to (from the first line)."""

    path: Path
    venue: str
    url: str

    def frames(self, on_bad_line: Callable[[], None] = lambda: None) -> Iterator[tuple[float, bytes]]:
        """Yield (recorded time in seconds, frame) for every received frame, in file order, in bounded memory.

        `on_bad_line` is called for each line that has another form; the line is left out.
        """
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
    """Read the first lines of a recorded file to find its venue, by the host in the address.

    Raises SettingError if the file cannot be read or names no known venue.
    """
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
    """A client's connection, as far as a playback uses it (`connection.ClientConnection`)."""

    outbox: list[Frame]

    @property
    def venue(self) -> str:
        """The venue that the client speaks to."""

    @property
    def subscribed(self) -> bool:
        """True after the client has subscribed to anything; it then gets the recorded frames."""

    @property
    def is_open(self) -> bool:
        """True from the handshake until either side closes the connection."""

    @property
    def buffered(self) -> int:
        """Bytes that were sent and wait in this process, because the client has not read them yet."""

    def flush(self) -> None:
        """Send the frames of `outbox`, as far as the active faults let them pass."""


class Audience(Protocol):
    """The source of a playback's listeners: the `Exchange`, as far as a playback uses it."""

    @property
    def paused(self) -> bool:
        """True while the simulator is paused, so that no frame may be sent."""

    @property
    def listeners(self) -> Iterable[Listener]:
        """All clients' connections, of any venue."""


class Playback:
    """Plays the recordings of one venue, one after the other, to the venue's subscribed clients.

    `speed` multiplies the original pace; 0 is as fast as the clients read. `ended` is True after the last frame.
    """

    def __init__(self, recordings: Sequence[Recording], speed: float) -> None:
        self.recordings = list(recordings)
        self.speed = speed
        self.ended = False
        self._sent = [0] * len(self.recordings)
        self._bad = [0] * len(self.recordings)
        self._finished = 0

    def status(self) -> list[dict[str, Any]]:
        """Return one object for each file, for `/admin/status`: frames sent, bad lines, and whether it has ended."""
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
        """Send all frames to the audience's clients of this venue, then return; their connections stay open."""
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
    """Build one playback for each venue of the recorded files: venue → playback, files in the order given.

    Raises SettingError for a file that cannot be read or is of no known venue.
    """
    by_venue: dict[str, list[Recording]] = {}
    for file in files:
        recording = open_recording(file)
        by_venue.setdefault(recording.venue, []).append(recording)
    return {venue: Playback(recordings, speed) for venue, recordings in by_venue.items()}
