"""One repair of gaps: fetch their trades over REST, send them, see the ledger close. With or without Dagster.

Guarantee: it asks only for ids that the ledger holds open or unavailable, and Silver takes each trade once, so a repair
beside another one, or beside ingest's own repair, doubles nothing. Limit: without a live Silver stream nobody closes
the gaps or counts the tries yet; the trades that were sent are in Kafka, and the next stream does both.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lakehouse.continuity.gaps import LedgerGap, open_gaps, unavailable_gaps
from lakehouse.errors import LeaseHeldError
from lakehouse.id_ranges import IdRanges
from lakehouse.lake.lease import Lease
from lakehouse.market.symbols import MarketKey
from lakehouse.repair.fetch import FetchReport, fetch_gaps
from lakehouse.settings import Settings

#: Seconds that one repair may fetch; what it has not got by then is for the next.
REPAIR_SECONDS = 300.0
#: Seconds for the streams to take what was sent: several of their triggers, also on a busy machine.
SETTLE_SECONDS = 90.0
#: Seconds between two looks at the repair's end, and at the ledger.
POLL_SECONDS, LEDGER_SECONDS = 0.2, 1.0
#: Seconds that an interrupted repair has to end, its acknowledgements included.
STOP_SECONDS = 10.0

Hold = Callable[[float], None]


@dataclass(frozen=True)
class RepairReport:
    """Counts of one repair, in trade ids except for `gaps` and `requests`.

    `ids` are all ids of the gaps. After the REST requests each of them is `repaired`, `unavailable` or `left`.
    """

    gaps: int = 0
    ids: int = 0
    again: int = 0  #: of these: the ledger held them unavailable
    repaired: int = 0
    unavailable: int = 0
    left: int = 0  #: neither of these, says the repair: REST lags, a limit, an error, or the time was up
    requests: int = 0
    #: In Silver's ledger after it, or as unavailable as before it; None if no stream is live that could tell.
    still_open: int | None = 0

    @property
    def done(self) -> bool:
        """True if every gap is closed or unavailable, or will be as soon as a stream runs."""
        return not self.left and not self.still_open


def repair_gaps(
    settings: Settings,
    gaps: Sequence[LedgerGap],
    timeout: float = REPAIR_SECONDS,
    settle: float = SETTLE_SECONDS,
    hold: Hold = time.sleep,
) -> RepairReport:
    """Repair `gaps` within `timeout` + `settle` seconds.

    `hold` waits so many seconds and may raise to end it. Raises what the repair raises: VenueError,
    BrokerUnavailableError, TerminalError.
    """
    if not gaps:
        return RepairReport()
    began = dt.datetime.now(dt.UTC)
    report = _repair(settings, gaps, timeout, hold)
    return RepairReport(
        gaps=len(gaps),
        ids=sum(len(gap) for gap in gaps),
        again=sum(len(gap) for gap in gaps if gap.tries),
        repaired=report.repaired,
        unavailable=report.unavailable,
        left=report.left,
        requests=report.requests,
        still_open=_settled(settings, gaps, began, report.left, time.monotonic() + settle, hold),
    )


def digest(gaps: Sequence[LedgerGap]) -> str:
    """A short name for a set of gaps: the same ids open, the same name, whatever their order."""
    lines = sorted(f"{gap.venue} {gap.symbol} {gap.first_id} {gap.last_id}" for gap in gaps)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def ids_still_open(asked: Sequence[LedgerGap], now_open: Sequence[LedgerGap]) -> int:
    """How many ids of the gaps in `asked` lie in those of `now_open`."""
    ranges: dict[MarketKey, IdRanges] = {}
    for gap in now_open:
        ranges.setdefault((gap.venue, gap.symbol), IdRanges()).add(gap.first_id, gap.last_id)
    parts = [
        part
        for gap in asked
        for part in ranges.get((gap.venue, gap.symbol), IdRanges()).within(gap.first_id, gap.last_id)
    ]
    return sum(last - first + 1 for first, last in parts)


def _repair(settings: Settings, gaps: Sequence[LedgerGap], timeout: float, hold: Hold) -> FetchReport:
    """Repair in a thread, so that `hold` can end it at any moment."""
    stop, done = threading.Event(), threading.Event()
    outcome: list[FetchReport | BaseException] = []

    def body() -> None:
        try:
            outcome.append(fetch_gaps(settings, gaps, stop, timeout))
        except BaseException as error:
            outcome.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=body, name="repair", daemon=True)
    thread.start()
    try:
        while not done.is_set():
            hold(POLL_SECONDS)
    finally:
        stop.set()
        thread.join(STOP_SECONDS)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _settled(
    settings: Settings, gaps: Sequence[LedgerGap], began: dt.datetime, left: int, deadline: float, hold: Hold
) -> int | None:
    """How many ids the ledger still holds open once it shows what was sent, or at the deadline; None: nobody writes it.

    So it does those that are unavailable without a try since this repair `began`. The repair has left `left` of them
    all as they were, so there is no use in waiting for less.
    """
    while True:
        still_open = ids_still_open(gaps, [*open_gaps(settings), *unavailable_gaps(settings, tried_before=began)])
        if still_open <= left or time.monotonic() >= deadline:
            return still_open
        if not _silver_is_live(settings):
            return None
        hold(LEDGER_SECONDS)


def _silver_is_live(settings: Settings) -> bool:
    probe = Lease(settings, ("silver",), "probe")
    try:
        probe.acquire()
    except LeaseHeldError:
        return True
    probe.release()
    return False
