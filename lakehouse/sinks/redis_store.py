"""Latest prices and the newest bars in Redis, for other programs.

Guarantee: for each size, the bars and their version of Gold are written in one MULTI, so after the death of a sink or
of Redis, work resumes at the version that Redis holds; a Redis that was emptied has no version and is filled anew. A
price is replaced only by one of a higher trade id.
Limits: one Redis, or one with replicas, but not Redis Cluster, whose MULTI cannot span these keys. One lakehouse per
database. Bars that Redis evicts are missing until they change: it needs the policy `noeviction`, its default. After
Redis was emptied, a price that this process has not read (see `prices.follower`) is not known.

Keys, which docs/reading-the-data.md describes: `lakehouse:price:VENUE:SYMBOL`, a hash;
`lakehouse:bars:SIZE:VENUE:SYMBOL`, a sorted set of bars as JSON by their start in seconds since the epoch;
`lakehouse:sink:SIZE`, a hash with the version. A change of a price or of bars is published in the channel that has the
name of its key.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
from collections.abc import Iterator
from typing import Any

from lakehouse.client import extras
from lakehouse.client.text import cell
from lakehouse.errors import RetriableError, SettingError, TerminalError
from lakehouse.prices.follower import Prices
from lakehouse.prices.latest_trade import LatestTrade
from lakehouse.settings import Settings
from lakehouse.sinks.gold_changes import bar_tables, changes_since, table_id
from lakehouse.sinks.newest_bars import Bar, Difference, difference
from lakehouse.sinks.run import LOOK_SECONDS, Held
from lakehouse.tables import GOLD_BARS_1M, Table

#: Seconds between two looks at the prices; Gold is looked at every LOOK_SECONDS.
PRICE_SECONDS = 0.25
#: Seconds that Redis may take for an answer, and for a connection to be made.
ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 10.0
#: Seconds for which prices may stand still because Kafka does not answer, before that is told.
PATIENCE_SECONDS = 10.0

PRICE, BARS, SINK = "lakehouse:price", "lakehouse:bars", "lakehouse:sink"

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

#: Codes with which Redis refuses for the time being, of those that the driver has no class for.
_FOR_NOW = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "TRYAGAIN", "UNKILLABLE", "BUSY")

# Trade ids are compared as text, because Lua's numbers are exact only up to 2^53.
_PUT_PRICE = """
local old, new = redis.call('HGET', KEYS[1], 'trade_id'), ARGV[1]
if old and (#old > #new or (#old == #new and old >= new)) then return 0 end
redis.call('HSET', KEYS[1], 'trade_id', unpack(ARGV, 1, #ARGV - 1))
redis.call('PUBLISH', KEYS[1], ARGV[#ARGV])
return 1
"""


class RedisSink:
    """A connection that keeps Redis up to date with Gold's bars and Kafka's prices. A context manager. Not thread-safe.

    Raises SettingError if the URL cannot be read as one of Redis, MissingDependencyError without the package redis.
    """

    every = PRICE_SECONDS

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings = settings
        self._driver: Any = extras.load("redis")
        self._prices = Prices(settings)
        self._is_reading = False
        self._sent: dict[str, int] = {}  # key → trade id
        self._next_look = float("-inf")
        try:
            self._redis: Any = self._driver.Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS,
                retry=None,  # `sinks.run` tries again, and says so
            )
        except (ValueError, TypeError):  # its message may quote the password
            raise SettingError(
                "a LAKEHOUSE_REDIS_URL that cannot be read", "redis://USER:PASSWORD@HOST:PORT/DATABASE"
            ) from None

    def __enter__(self) -> RedisSink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_reading:
            self._prices.stop()
        with contextlib.suppress(self._driver.RedisError):
            self._redis.close()

    def look(self) -> dict[str, int]:
        """Write the prices that are new; every LOOK_SECONDS also bring every size of bars to Gold's newest version.

        Returns size → bars written, for the sizes that changed. Raises RetriableError if Redis does not answer,
        TerminalError if it refuses what is asked of it.
        """
        self._read_prices()
        done: dict[str, int] = {}
        with self._errors():
            if time.monotonic() >= self._next_look:
                for table, size in bar_tables(self._settings):
                    bars = self._bring(table, size)
                    if bars is not None:
                        done[size] = bars
                self._next_look = time.monotonic() + LOOK_SECONDS
                self._sent.clear()  # Redis may have been started again without the last ones: all are sent
            self._put_prices()
        return done

    def held(self) -> dict[str, Held]:
        """Return what Redis holds, by size of bars. Raises as `look`."""
        with self._errors():
            found = {size: self._redis.hmget(f"{SINK}:{size}", "table_id", "version") for size in self._sizes()}
        return {size: Held(identity, int(version)) for size, (identity, version) in found.items() if version}

    def rows(self) -> int:
        """Return the number of bars in Redis. Raises as `look`."""
        with self._errors(), self._redis.pipeline(transaction=False) as pipe:
            for key in set(self._redis.scan_iter(match=f"{BARS}:*", count=1_000)):
                pipe.zcard(key)
            return sum(pipe.execute())

    def trouble(self) -> str:
        """Return that prices stand still because Kafka does not answer, and since when (UTC); empty if they do not."""
        feed = self._prices.feed
        if feed.connected or time.time() - feed.since < PATIENCE_SECONDS:
            return ""
        since = dt.datetime.fromtimestamp(feed.since, dt.UTC)
        return f"no new prices since {since:%H:%M:%S} UTC: {feed.reason}"

    def lacks(self, seconds: float) -> str:
        """Wait at most `seconds` until Kafka has been read up to its end; return why it has not, empty if it has."""
        self._read_prices()
        deadline = time.monotonic() + seconds
        while not self._prices.has_caught_up and time.monotonic() < deadline:
            time.sleep(0.05)
        return "" if self._prices.has_caught_up else f"no prices: {self._prices.feed.reason}"

    def _read_prices(self) -> None:
        if not self._is_reading:
            self._prices.start()
            self._is_reading = True

    def _sizes(self) -> list[str]:
        return [size for _, size in bar_tables(self._settings)]

    def _bring(self, table: Table, size: str) -> int | None:
        identity, version_key = table_id(self._settings, table), f"{SINK}:{size}"
        most = self._settings.redis_bars
        with self._redis.pipeline() as pipe:
            pipe.watch(version_key)  # a second sink, or whoever empties Redis, makes the transaction fail
            was, version, bars = pipe.hmget(version_key, "table_id", "version", "bars")
            same = (was, bars) == (identity, str(most))
            changes = changes_since(self._settings, table, int(version) if same else None)
            if changes is None:
                return None
            what = difference(self._settings, changes, most)
            stale = self._other_keys(size, what) if what.whole else []
            if was not in (None, identity) and table is GOLD_BARS_1M:
                stale += self._redis.scan_iter(match=f"{PRICE}:*", count=1_000)  # of another lake, with ids of its own
            pipe.multi()
            if stale:
                pipe.delete(*stale)
            written = _put_bars(pipe, what, size, most)
            now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            fields = {"table_id": identity, "version": changes.version, "bars": most, "updated_at": now}
            pipe.hset(version_key, mapping=fields)
            try:
                pipe.execute()
            except self._driver.ResponseError:
                # Redis takes nothing back: of a MULTI with one wrong command, such as on a key of another type, the
                # others stand. Without a version all is written anew.
                self._redis.delete(version_key)
                raise
        return written

    def _other_keys(self, size: str, what: Difference) -> list[str]:
        ours = {_key(BARS, size, *series) for series in what.anew}
        found = self._redis.scan_iter(match=f"{BARS}:{size}:*", count=1_000)
        return [key for key in dict.fromkeys(found) if key not in ours]

    def _put_prices(self) -> None:
        new = [
            (key, trade)
            for trade in self._prices.latest()
            if self._sent.get(key := _key(PRICE, trade.venue, trade.symbol), -1) < trade.trade_id
        ]
        if not new:
            return
        with self._redis.pipeline(transaction=False) as pipe:
            for key, trade in new:
                pipe.eval(_PUT_PRICE, 1, key, *_arguments(trade))
            pipe.execute()
        self._sent |= {key: trade.trade_id for key, trade in new}

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the driver's errors into one line of ours, without the URL, which may hold a password."""
        errors = self._driver.exceptions
        try:
            yield
        except errors.WatchError:
            raise RetriableError("Redis was written by another sink in the same moment", "one sink for it") from None
        except (errors.AuthenticationError, errors.AuthorizationError) as error:
            raise TerminalError(f"Redis refused ({_line(error)})", "a LAKEHOUSE_REDIS_URL that it takes") from None
        except (errors.ConnectionError, errors.TimeoutError, errors.BusyLoadingError) as error:
            raise RetriableError(f"Redis does not answer ({_line(error)})", "a running server") from None
        except self._driver.RedisError as error:
            if isinstance(error, errors.ReadOnlyError | errors.OutOfMemoryError) or str(error).startswith(_FOR_NOW):
                raise RetriableError(f"Redis takes no writes ({_line(error)})", "a primary with room left") from None
            raise TerminalError(
                f"Redis refused ({_line(error)})", f"keys {PRICE}:*, {BARS}:* and {SINK}:* as this sink makes them"
            ) from None


def _put_bars(pipe: Any, what: Difference, size: str, most: int) -> int:
    """Write a difference, and publish for each series the start of its oldest bar that changed; return the bars."""
    written = 0
    for series, bars in {**what.changed, **what.anew}.items():
        key = _key(BARS, size, *series)
        if series in what.anew:
            pipe.delete(key)
        for bar in what.changed.get(series, ()):
            pipe.zremrangebyscore(key, _second(bar), _second(bar))
        if bars:
            pipe.zadd(key, {_json(bar): _second(bar) for bar in bars})
        pipe.zremrangebyrank(key, 0, -most - 1)
        pipe.publish(key, _second(bars[0]) if bars else "")
        written += len(bars)
    return written


def _key(*parts: str) -> str:
    return ":".join(parts)


def _second(bar: Bar) -> int:
    return int(bar["bar_start"].timestamp())


def _json(bar: Bar) -> str:
    return json.dumps({name: cell(value) for name, value in bar.items() if name != "bar_date"}, separators=(",", ":"))


def _arguments(trade: LatestTrade) -> list[Any]:
    """Values of a price's hash, `trade_id` first and by name from then on, and its JSON, which is published."""
    fields = {
        "trade_id": trade.trade_id,
        "venue": trade.venue,
        "symbol": trade.symbol,
        "price": trade.price,
        "size": trade.size,
        "side": trade.side,
        "ts_event": cell(_EPOCH + dt.timedelta(microseconds=trade.ts_event)),
        "ts_ingest": cell(_EPOCH + dt.timedelta(microseconds=trade.ts_ingest)),
    }
    pairs = [text for name, value in fields.items() for text in (name, value)]
    return [*pairs[1:], json.dumps(fields, separators=(",", ":"))]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
