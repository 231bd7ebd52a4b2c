"""Apply the active faults to one client's connection: lose, hold back, repeat or garble frames, or end it.

Guarantee: a frame that is held back leaves within its fault's delay, and at once when that fault ends; if the
connection ends before, the frame is lost to that client. An extra frame of a fault comes after the true frame, on the
same connection, and only if the true frame itself was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from lakehouse.simulator.faults import frame_faults
from lakehouse.simulator.faults.kinds import GARBAGE, Garbage, Wanted
from lakehouse.simulator.faults.model import DATA, Cut, Frame, Peer

#: Kind of fault → the way in which it ends a connection.
CUTS = {
    "cut_1006": Cut(1006, "fault"),
    "cut_1008": Cut(1008, "fault"),
    "day_end": Cut(1001, "going away"),
    "outage": Cut(1006, "outage"),
    "refuse_passing": Cut(1006, "fault"),
    "handshake_refused": Cut(1006, "refused"),
}
GOING_AWAY = Cut(1001, "server shutdown")
#: Seconds by which `snapshot_overlap` delays a snapshot.
LATE_SNAPSHOT_SECONDS = 0.3
#: A fault that happens once stays active for this many seconds, so that every connection meets it.
ONCE_SECONDS = 1.0


class Fault:
    """An active fault: the request (`wanted`), its time from `since` to `until` (monotonic seconds), and counts.

    `number` identifies it; `done` (the argument) is the count by kind that all faults of the simulator share.
    """

    def __init__(self, number: int, wanted: Wanted, now: float, done: Counter[str]) -> None:
        self.number = number
        self.wanted = wanted
        self.name = wanted.kind.name
        self.since = now
        self.until = now + self._seconds(wanted)
        self.done = 0
        self.refused = 0  #: subscriptions that it has refused
        self._all_done = done
        self._chosen: dict[int, bool] = {}

    @staticmethod
    def _seconds(wanted: Wanted) -> float:
        return wanted.number("delay") + ONCE_SECONDS if wanted.kind.once else wanted.seconds

    def hits(self, venue: str, symbol: str | None = None) -> bool:
        """Return True if the fault is about this venue, and about this canonical symbol if one is given."""
        wanted = self.wanted
        if venue not in wanted.kind.venues or wanted.venue not in (None, venue):
            return False
        return symbol is None or wanted.symbol in (None, symbol)

    def strikes(self, random: Random) -> bool:
        """Draw whether the fault strikes this time: True with the probability `share`."""
        return self.wanted.share >= 1.0 or random.random() < self.wanted.share

    def chooses(self, peer: Peer, random: Random) -> bool:
        """Return whether the fault strikes this connection: drawn once for it, with the probability `share`.

        Always False for a connection made after the fault began, if the fault has `open_only`.
        """
        if self.wanted.parameters.get("open_only") and peer.since > self.since:
            return False
        if peer.number not in self._chosen:
            self._chosen[peer.number] = self.strikes(random)
        return self._chosen[peer.number]

    def count(self, times: int = 1) -> None:
        """Count that the fault has struck so many times, here and in the simulator's count of its kind."""
        self.done += times
        self._all_done[self.name] += times


class ConnectionFaults:
    """The state of faults on one client's connection: the frames held back, muted symbols, an announced closing.

    `shutdown_notice` builds the venue's frame that announces a shutdown; empty if the venue sends none.
    """

    def __init__(self, peer: Peer, random: Random, shutdown_notice: Callable[[], bytes]) -> None:
        self.peer = peer
        #: Canonical symbols whose subscription was acknowledged but brings no trades (`ack_silent`).
        self.unheard: set[str] = set()
        self._random = random
        self._shutdown_notice = shutdown_notice
        #: (when to send it, the frame, whether it is an extra that no other fault touches).
        self._held: list[tuple[float, Frame, bool]] = []
        self._batch: list[Frame] = []
        self._batch_until = 0.0
        self._close_at: float | None = None
        self._garbage = 0

    @property
    def is_busy(self) -> bool:
        """True if frames are held back, symbols muted or a closing announced, even after the last fault has ended."""
        return bool(self._held or self._batch or self.unheard or self._close_at is not None)

    def release(self) -> None:
        """Make all frames that are held back due, so that the next `send` returns them."""
        self._held = [(0.0, frame, is_extra) for _, frame, is_extra in self._held]
        self._batch_until = 0.0

    def heal(self) -> None:
        """Undo the effects that outlive a fault: unmute symbols, call off an announced closing, `release` frames."""
        self.unheard.clear()
        self._close_at = None
        self.release()

    def send(self, faults: Sequence[Fault], frames: Sequence[Frame], now: float) -> list[Frame | Cut]:
        """Return the frames to send in place of `frames`, those held back that are due, and maybe a Cut.

        `faults` are the active ones about this connection's venue; `now` is in monotonic seconds.
        """
        out: list[Frame | Cut] = []
        cut = self._cut(faults, out, now)
        if cut and cut.code == 1006:
            return [cut]
        for frame in frames:
            if not self._is_lost(faults, frame) and not self._is_held(faults, frame, now):
                self._let_out(faults, frame, out, now)
        if self._batch and now >= self._batch_until:
            batch, self._batch = self._batch, []
            for frame in reversed(batch):
                reversed_ = frame_faults.reverse(frame) if frame.kind == "trade" else frame
                self._let_out(faults, reversed_, out, now)
        due = sorted((entry for entry in self._held if entry[0] <= now), key=lambda entry: entry[0])
        if due:
            self._held = [entry for entry in self._held if entry[0] > now]
        for _, frame, is_extra in due:
            if is_extra:
                out.append(frame)
            else:
                self._let_out(faults, frame, out, now)
        if cut:
            out.append(cut)
        return out

    def _cut(self, faults: Sequence[Fault], out: list[Frame | Cut], now: float) -> Cut | None:
        if self._close_at is not None and now >= self._close_at:
            return GOING_AWAY
        for fault in faults:
            is_cut, is_notice = fault.name in CUTS, fault.name == "server_shutdown" and self._close_at is None
            if (
                not (is_cut or is_notice)
                or self.peer.since > fault.since
                or fault.wanted.parameters.get("cut") is False
            ):
                continue
            if not fault.chooses(self.peer, self._random):
                continue
            fault.count()
            if is_cut:
                return CUTS[fault.name]
            self._close_at = now + fault.wanted.number("delay")
            notice = self._shutdown_notice()
            if notice:
                out.append(Frame(notice))
        return None

    def _is_lost(self, faults: Sequence[Fault], frame: Frame) -> bool:
        if frame.kind in DATA and frame.symbol in self.unheard:
            return True
        for fault in faults:
            if not fault.hits(self.peer.venue, frame.symbol):
                continue
            match fault.name:
                case "drop":
                    lost = frame.kind in DATA and fault.strikes(self._random)
                case "silent":
                    lost = (frame.kind in DATA or frame.kind == "heartbeat") and fault.chooses(self.peer, self._random)
                case "mute":
                    lost = frame.kind in DATA and fault.chooses(self.peer, self._random)
                case "no_pong":
                    lost = frame.kind == "pong" and fault.chooses(self.peer, self._random)
                case _:
                    lost = False
            if lost:
                fault.count()
                return True
        return False

    def _is_held(self, faults: Sequence[Fault], frame: Frame, now: float) -> bool:
        if frame.kind not in DATA:
            return False
        for fault in faults:
            if not fault.hits(self.peer.venue, frame.symbol):
                continue
            match fault.name:
                case "newest_first" if fault.strikes(self._random):
                    if not self._batch:
                        self._batch_until = now + fault.wanted.number("window")
                    self._batch.append(frame)
                case "reorder" if fault.strikes(self._random):
                    delay = fault.wanted.number("delay") * self._random.uniform(0.2, 1.0)
                    self._held.append((now + delay, frame, False))
                case "snapshot_overlap" if frame.kind == "snapshot" and fault.strikes(self._random):
                    self._held.append((now + LATE_SNAPSHOT_SECONDS, frame, False))
                case _:
                    continue
            fault.count()
            return True
        return False

    def _let_out(self, faults: Sequence[Fault], frame: Frame, out: list[Frame | Cut], now: float) -> None:
        """Send the frame, and the extra frames of the faults."""
        out.append(frame)
        if frame.kind not in DATA:
            return
        for fault in faults:
            if not fault.hits(self.peer.venue, frame.symbol):
                continue
            if fault.name == "duplicate" and fault.strikes(self._random):
                if self._random.random() < 0.5:
                    out.append(frame)
                else:
                    delay = fault.wanted.number("delay") * self._random.random()
                    self._held.append((now + delay, frame, True))
                fault.count()
            elif frame.kind == "trade":
                extra = self._extra(fault, frame)
                if extra:
                    out.append(extra)
                    fault.count()

    def _extra(self, fault: Fault, frame: Frame) -> Frame | None:
        if fault.name not in ("snapshot_overlap", "conflict", "garbage") or not fault.strikes(self._random):
            return None
        if fault.name == "snapshot_overlap":
            return frame_faults.as_snapshot(frame)
        if fault.name == "conflict":
            return frame_faults.conflict(frame, self._random)
        named = fault.wanted.parameters["what"]
        what: Garbage = next((one for one in GARBAGE if one == named), GARBAGE[self._garbage % len(GARBAGE)])
        self._garbage += 1
        return frame_faults.garbage(frame, what, self._random)
