"""Which quiet symbol to look at over REST, and which subscription is silent. Pure: it is told the time.

Ids cannot show a loss at the tail: nothing comes after it. So a symbol that has been quiet is looked at: the newest id
of the venue's REST history. An id that is ahead of ours at two looks is lost. Where it moves on besides, or again and
again, while the socket brings nothing, the subscription is silent, however healthy the connection looks.

A symbol that is merely quiet costs one request every `QUIET_SECONDS`; those under suspicion come first, then the one
that has waited longest, so that many symbols share a small budget fairly.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds without a trade after which a symbol is looked at, and between two looks that found nothing.
QUIET_SECONDS = 30.0
#: The same right after a connection: what was traded while there was none is a loss that nothing else may show soon.
FRESH_SECONDS = 5.0
#: Seconds between the two looks that make a loss certain: far more than a trade spends on its way to us.
AGAIN_SECONDS = 5.0


@dataclass(slots=True)
class _Symbol:
    """What is known of one symbol. Times are monotonic seconds."""

    due: float
    received: int = 0  #: trades that came over a socket, at the last sample
    subscribed: float | None = None  #: since when the present connection is subscribed
    # Since the last trade or connection:
    base: int | None = None  #: REST's newest id at the first look
    newest: int | None = None  #: and at the last one
    mark: int | None = None  #: ours after the last one
    looked: float = 0.0  #: when that was
    losses: int = 0
    is_suspect: bool = False  #: the last look showed an id that we lack

    def forget(self) -> None:
        """A trade or a connection has come: what was looked at before proves nothing more."""
        self.base = self.mark = self.newest = None
        self.losses, self.is_suspect = 0, False


class Quiet:
    """The symbols of one venue. Not thread-safe."""

    def __init__(self) -> None:
        self._symbols: dict[str, _Symbol] = {}

    def sample(self, symbol: str, received: int, subscribed: float | None, now: float) -> None:
        """How many trades have come so far, and since when the symbol is subscribed (None: it is not)."""
        known = self._symbols.get(symbol)
        if known is None:
            # Soon, whether or not the venue takes the subscription: what is traded from the first look on is wanted.
            known = self._symbols[symbol] = _Symbol(now + FRESH_SECONDS)
        if subscribed != known.subscribed:
            known.subscribed = subscribed
            known.forget()
            if subscribed is not None:
                known.due = min(known.due, subscribed + FRESH_SECONDS)
        if received != known.received:
            known.received = received
            known.forget()
            known.due = now + QUIET_SECONDS

    def due(self, now: float) -> tuple[str, float] | None:
        """The symbol to look at and for how many seconds it has been due; None where none is."""
        due = [(not one.is_suspect, one.due, symbol) for symbol, one in self._symbols.items() if one.due <= now]
        if not due:
            return None
        _, since, symbol = min(due)
        return symbol, now - since

    def looked(self, symbol: str, newest: int | None, mark: int | None, is_loss: bool, now: float) -> bool:
        """What REST showed as the newest id; `mark` was ours before, `is_loss` whether ids are now known to be lost.

        True where the subscription is silent.
        """
        known = self._symbols[symbol]
        if newest is None:  # the venue shows no trade at all
            known.due = now + QUIET_SECONDS
            return False
        before, known.newest = known.newest, newest
        was, known.looked = known.looked, now
        known.base = newest if known.base is None else known.base
        if known.mark is not None and mark is not None and mark > known.mark:
            is_loss = True  # heartbeats have shown it already, and moved our mark
        if mark is None:
            # Traded after we had subscribed, shown by the look before this one, and not received to this day.
            is_loss = before is not None and before > known.base
            mark = known.base
        had = mark if before is None or not is_loss else max(mark, before)
        known.mark = had
        known.is_suspect = newest > had
        known.due = now + (AGAIN_SECONDS if known.is_suspect else QUIET_SECONDS)
        known.losses += is_loss
        is_live = known.subscribed is not None and known.subscribed <= was
        # Ids that do not move on and one loss: some trades were lost, and the symbol may be quiet since.
        if before is None or not is_loss or not is_live or (newest == before and known.losses < 2):
            return False
        known.forget()
        return True

    def failed(self, symbol: str, due: float) -> None:
        """A look got no answer; the next one at `due`."""
        self._symbols[symbol].due = due

    def remove(self, symbol: str) -> None:
        """It is wanted no more."""
        self._symbols.pop(symbol, None)
