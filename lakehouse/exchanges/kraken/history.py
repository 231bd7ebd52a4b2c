"""Fetch a range of trade ids from Kraken's REST API, which can be asked for trades after a time, not for an id.

Only 586 of 1,000 recorded rows had distinct times, so a page may end inside one timestamp. The next page is asked for
from just before it and overlaps the last one; rows are told apart by id. Limit: if one timestamp fills more than a
whole page, its later trades cannot be asked for at all; they end as unavailable.
"""

from __future__ import annotations

from lakehouse.exchanges.history import PAGE_TRADES, Page, Reply, Request, Walk
from lakehouse.exchanges.json_fields import MAX_TIME
from lakehouse.exchanges.kraken.id_search import SECOND, Search
from lakehouse.exchanges.kraken.rest import TradesPage, read_page, trades_request
from lakehouse.exchanges.model import Trade

#: Nanoseconds before `ts_before` at which the search begins: REST and socket may cut a trade's time differently.
SLACK = SECOND // 1000
#: If a page does not begin where the last one ended, it is asked for again from so many ns earlier; each once a walk.
STEPS_BACK = (1_000, 1_000_000, SECOND)
#: If the range begins at most this many pages above a probe, the walk goes there page by page instead of searching.
NEAR_PAGES = 4
#: Most pages of a walk, beyond two for each thousand ids: for trades before the range, and timestamps that fill a page.
SPARE_PAGES = 64
_LATEST = MAX_TIME * 1000


class KrakenHistory(Walk):
    """Kraken's `History`: search for the time of the first id, then fetch pages upwards from there."""

    def __init__(
        self,
        symbol: str,
        first_id: int,
        last_id: int,
        ts_before: int | None = None,
        ts_after: int | None = None,
        page: int = PAGE_TRADES,
    ) -> None:
        super().__init__(first_id, last_id)
        self._symbol = symbol
        self._page = page
        beyond = None if ts_after is None else ts_after * 1000
        #: None: nothing is known yet of when the range was, or it has been found.
        self._search: Search | None = None
        if ts_before is not None:
            self._search = Search(ts_before * 1000 - SLACK, _LATEST, beyond)
        elif beyond is not None:
            self._search = Search(beyond - SECOND, _LATEST, beyond)
        #: Pages begin after this time (ns); None: the newest page.
        self._since = None if self._search is None else self._search.at
        self._pages = 0
        self._pages_left = 2 * -(-(last_id - first_id + 1) // page) + SPARE_PAGES
        #: All that Kraken has from the range's beginning on has been shown up to this id.
        self._upto: int | None = None
        #: The next page need not go on if this one ends: what lies between cannot be asked for.
        self._jumped = False
        self._steps_back = iter(STEPS_BACK)

    def request(self) -> Request | None:
        """Return the next request: a probe of the search for the first id, or the next page. None at the end."""
        if self._ended:
            return None
        # The meaning of `count` without `since` is not documented.
        return trades_request(self._symbol, self._since, None if self._since is None else self._page)

    def take(self, reply: Reply) -> Page:
        """Take the reply to `request`, return its trades and move the walk on. Raises VenueError or TerminalError."""
        shown = read_page(reply, self._symbol)
        page = self._keep(shown.rows)
        ids = sorted({trade_id for trade_id, _ in shown.rows if trade_id is not None})
        if ids:
            self._cover(ids[0], ids[-1])  # neighbours in one page: nothing else will ever come between them
        self._pages += 1
        if self._since is None:
            self._begin(shown, ids)
        elif self._search is None or self._found(self._search, self._since, shown, ids):
            self._search = None
            self._walk(self._since, shown, ids)
        return page

    def _begin(self, shown: TradesPage, ids: list[int]) -> None:
        """Take the time from the newest page, if the caller knew none."""
        start = _time(shown, first=True)
        if start is None:
            self._ended = True  # there is no trade yet
        elif ids and ids[0] <= self._first:
            self._walk(start, shown, ids)
        else:
            self._search = Search(start, _LATEST)
            self._search.too_late()
            self._since = self._search.at

    def _found(self, search: Search, since: int, shown: TradesPage, ids: list[int]) -> bool:
        """True if the walk begins with this page. Otherwise the next probe, or page, is set; or the walk has ended."""
        if not shown.rows and (self._pages == 1 or since == 0):
            # Not even the trade ahead of the range: REST lags, or there is none at all.
            self._ended = True
            return False
        if not ids or ids[0] > self._first:
            if since == 0 and shown.rows:
                return True  # the history begins above the range's first id
            search.too_late()
        elif len(shown.rows) < self._page or ids[-1] >= self._first - NEAR_PAGES * self._page:
            return True
        else:
            search.too_early(_time(shown) or since)
        self._since = search.at
        if search.ended:
            self._search = None
        return False

    def _walk(self, since: int, shown: TradesPage, ids: list[int]) -> None:
        """Note what this page of trades after `since` shows, and where the next one begins."""
        if self._upto is None:
            seen, is_linked = self._first - 1, bool(ids) and (since == 0 or ids[0] <= self._first)
        else:
            seen, is_linked = self._upto, self._jumped or (bool(ids) and ids[0] <= self._upto + 1)
        if ids and not is_linked and (step := next(self._steps_back, None)) is not None:
            self._since = max(0, since - step)
            return
        is_full = len(shown.rows) >= self._page
        if is_linked:
            # A page that is not full ends the history: the newest id that was ever seen has been passed.
            upto = max(ids, default=seen) if is_full else max(seen, self._newest or 0)
            self._cover(seen + 1, upto)
        self._upto = max(ids, default=seen)
        self._pages_left -= 1
        end = _time(shown)
        if not is_full or end is None or self._pages_left < 0 or (ids and ids[-1] >= self._last):
            self._ended = True
            return
        # A bad row at the end may be all that the next page has of this one's last timestamp.
        self._jumped = shown.rows[-1].trade_id is None
        self._since = end - 1
        if self._since <= since:  # one timestamp fills the page: the rest of it cannot be asked for
            self._since = max(end, since + 1)
            self._jumped = True


def _time(shown: TradesPage, first: bool = False) -> int | None:
    """The time (ns) of the page's last row, or just before its first; None if it cannot be told.

    `last` comes first, for a row's own time is rounded: it passed through a double at the venue.
    """
    times = [value.ts_event for _, value in shown.rows if isinstance(value, Trade)]
    if first and times:
        return max(0, min(times) * 1000 - 1000)
    if shown.last is not None:
        return min(shown.last, _LATEST)
    return max(times) * 1000 - 1000 if times else None
