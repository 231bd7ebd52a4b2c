"""The sensor `alert_moves`: new rows of gold/moves become alerts.

Each alert is one line in the sensor's log and in the tick's message and, if the setting `alert_webhook_url` is set, one
POST of JSON with these fields:

    venue       name of the venue in settings and tables, such as binance
    symbol      canonical, such as BTC/USDT
    minute      start of the minute, ISO 8601, UTC: 2026-11-21T13:05:00+00:00
    direction   up or down
    from_price  open of the minute, to_price its close, change = to_price ÷ from_price − 1: decimals as strings, exact
    trades      number of trades of the minute at the time of the alert
    text        the move as one line for people

Guarantee: at least once, in the order of the minutes known at a tick. A POST that is not answered by 2xx is repeated at
the next tick until the minute is an hour old; then the tick's message counts it as given up. A move is alerted once, as
first seen: a change by late trades or a rebuild is not a new alert. The first tick on a lake alerts none of its moves.
Limit: a code server that dies between a POST and the end of its tick makes that POST again.
"""

from __future__ import annotations

import datetime as dt

from dagster import (
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from lakehouse.errors import LakehouseError
from lakehouse.lake.table_io import open_table, sql
from lakehouse.lake.unreadable import READ_ERRORS
from lakehouse.settings import Settings
from lakehouse.tables import GOLD_MOVES
from sensors.moves import ALERT_FOR, REMEMBER_FOR, Cursor, Move, decide_alerts
from sensors.webhook import deliver

#: Seconds that the webhook may take in one tick; with reading the lake, a tick stays below 20.
WEBHOOK_SECONDS = 15.0

_COLUMNS = "venue, symbol, bar_start AS minute, direction, from_price, to_price, change, trades, updated_at"


def read_moves(settings: Settings, cursor: Cursor | None, now: dt.datetime) -> list[Move]:
    """Read the rows of gold/moves whose minute began at most REMEMBER_FOR before `now`.

    With a cursor, also read all rows written after `cursor.seen`. Raises as `table_io.sql`.
    """
    start = now - REMEMBER_FOR
    where = f"(bar_date >= DATE '{start.date()}' AND bar_start >= {_literal(start)})"
    if cursor is not None:
        where += f" OR updated_at > {_literal(cursor.seen)}"
    return [Move(**row) for row in sql(settings, f"SELECT {_COLUMNS} FROM m WHERE {where}", m=GOLD_MOVES).to_pylist()]


def alert_moves(settings: Settings) -> SensorDefinition:
    """Make the sensor `alert_moves`, which logs new moves and sends them to the webhook if the settings name one."""

    @sensor(
        name="alert_moves",
        default_status=DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=settings.supervisor_seconds,
        description="Logs new rows of gold/moves, moves of a price within a minute beyond "
        f"{settings.move_threshold:%}, and sends them to the webhook of the settings if there is one. "
        "Turn it off to be left alone.",
    )
    def alert(context: SensorEvaluationContext) -> SensorResult:
        return _tick(context, settings, dt.datetime.now(dt.UTC))

    return alert


def _tick(context: SensorEvaluationContext, settings: Settings, now: dt.datetime) -> SensorResult:
    cursor = _cursor(context)
    try:
        if cursor is None and not _there(settings):
            # No lake yet: every move is going to be new.
            return SensorResult(skip_reason=SkipReason("no table gold/moves yet"), cursor=Cursor(now).dumps())
        rows = read_moves(settings, cursor, now)
    except READ_ERRORS as error:
        reason = f"gold/moves could not be read: {' '.join(str(error).split())}"
        return SensorResult(skip_reason=SkipReason(reason), cursor=context.cursor)
    decision, said = decide_alerts(rows, cursor, now), list[str]()
    after, url = decision.cursor, settings.alert_webhook_url
    for move in decision.to_log:
        context.log.info(move.text)
        said.append(move.text)
        after = after.with_logged(move, to_send=url is not None)
    if url is not None and decision.to_send:
        delivery = deliver(url, [move.body() for move in decision.to_send], WEBHOOK_SECONDS)
        after = after.with_sent(decision.to_send[: delivery.delivered])
        if delivery.problem:
            waiting = len(decision.to_send) - delivery.delivered
            said.append(f"webhook: {delivery.problem}; {waiting} alerts wait for the next tick")
            context.log.warning(said[-1])
    if decision.too_old:
        first = "there at the first look" if cursor is None else f"older than {ALERT_FOR}"
        said.append(f"{decision.too_old} moves not alerted: {first}")
    if decision.given_up:
        said.append(f"{decision.given_up} alerts given up: the webhook did not take them within {ALERT_FOR}")
        context.log.warning(said[-1])
    return SensorResult(skip_reason=SkipReason("; ".join(said) or "no new move"), cursor=after.dumps())


def _cursor(context: SensorEvaluationContext) -> Cursor | None:
    """Earlier alerts; None at the first tick, or if somebody put something else into the cursor."""
    try:
        return Cursor.loads(context.cursor) if context.cursor else None
    except (ValueError, KeyError, TypeError):
        context.log.warning("the cursor cannot be read: this tick counts as the first")
        return None


def _there(settings: Settings) -> bool:
    try:
        open_table(settings, GOLD_MOVES)
    except LakehouseError:
        return False
    return True


def _literal(moment: dt.datetime) -> str:
    return f"TIMESTAMP '{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S.%f}Z'"
