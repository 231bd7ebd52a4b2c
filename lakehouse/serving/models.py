"""Models of the answers, only for OpenAPI: made from the registry of tables, so that they agree with the tables."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, create_model

from lakehouse.client.bar_completeness import BAR_CERTIFICATE
from lakehouse.client.bars import NULLABLE
from lakehouse.lake import table_io
from lakehouse.tables import (
    GOLD_BARS_1M,
    GOLD_INDICATORS_1M,
    GOLD_MOVES,
    GOLD_SPREADS_1M,
    SILVER_TRADES,
    Table,
)

_EXAMPLE_TIME = "2026-11-01T12:00:00.000000Z"
_DECIMAL: dict[str, Any] = {"pattern": r"^-?\d+(\.\d+)?$", "examples": ["101.25"]}


class Problem(BaseModel):
    """An error (RFC 9457). `detail` says what was found and what was expected."""

    type: str = Field(examples=["urn:lakehouse:problem:bad-parameter"])
    title: str = Field(examples=["A parameter cannot be used"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["unknown venue 'binanse'; expected one of binance, kraken, coinbase"])


class Page(BaseModel):
    """Rows of one version of a table. `next` is the cursor of the next page; null if there is none."""

    table: str = Field(examples=["gold/bars_1m"])
    version: int = Field(examples=[42])
    next: str | None


class Market(BaseModel):
    """A market of the lake."""

    venue: str
    symbol: str
    first_trade: dt.datetime | None = Field(description="Time of the first trade that the ledger knows.")
    last_trade: dt.datetime | None = Field(description="Time of the newest one.")


class Markets(Page):
    """All markets of the lake. `simulated`: they are made up by the simulated exchange."""

    simulated: bool
    rows: list[Market]


class Price(BaseModel):
    """The latest trade of a market that Kafka has."""

    venue: str
    symbol: str
    price: str = Field(json_schema_extra=_DECIMAL)
    size: str = Field(json_schema_extra=_DECIMAL)
    side: Literal["buy", "sell"]
    trade_id: int
    ts_event: dt.datetime = Field(description="The venue's time of the trade.")
    ts_ingest: dt.datetime = Field(description="When it was received.")


class Prices(BaseModel):
    """Latest trades; if `connected` is false, Kafka does not answer: they are the last known, `reason` says why."""

    connected: bool
    since: dt.datetime = Field(description="Since when it is connected or not.")
    reason: str
    simulated: bool
    rows: list[Price]


class Proof(BaseModel):
    """Evidence of a certificate."""

    by: str = Field(examples=["the venue's own trade ids, which follow each other without a gap per market"])
    ledger: str = Field(description="Table of the ledger of ids.", examples=["silver/continuity"])
    ledger_version: int
    trades: str = Field(description="Table of the trades that the ledger describes.", examples=["silver/trades"])
    trades_version: int | None = Field(description="Its version; null if there is no market.")


class Health(BaseModel):
    """State of the API: `ok`, or `degraded` if Kafka does not answer; a lake that cannot be read is a problem."""

    status: Literal["ok", "degraded"]
    simulated: bool
    kafka_connected: bool
    kafka_reason: str
    newest_bar: dt.datetime | None = Field(description="Start of the newest one-minute bar.")
    newest_trade: dt.datetime | None = Field(description="Time of the newest trade in silver/trades.")
    versions: dict[str, int] = Field(examples=[{"gold/bars_1m": 42}])
    uptime_seconds: float
    cached_bytes: int = Field(description="Bytes of Gold that are kept in memory.")


def _row_model(
    name: str, schema: pa.Schema, about: str, words: dict[str, str], optional: tuple[str, ...] = ()
) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for field in schema:
        kind, extra = _kind(field.type)
        description = words.get(field.name)
        fields[field.name] = (
            kind | None if field.nullable else kind,
            Field(None if field.name in optional else ..., description=description, json_schema_extra=extra),
        )
    return create_model(name, __doc__=about, __config__=ConfigDict(extra="forbid"), **fields)


def _kind(kind: Any) -> tuple[Any, Any]:
    if pa.types.is_decimal(kind):
        return str, _DECIMAL
    if pa.types.is_timestamp(kind):
        return dt.datetime, {"examples": [_EXAMPLE_TIME]}
    if pa.types.is_date(kind):
        return dt.date, {"examples": ["2026-11-01"]}
    return (bool if pa.types.is_boolean(kind) else int if pa.types.is_integer(kind) else str), None


def _of_table(name: str, table: Table, nullable: tuple[str, ...] = ()) -> type[BaseModel]:
    schema = table_io.arrow_schema(table)
    fields = [field.with_nullable(field.nullable or field.name in nullable) for field in schema]
    words = {column.name: column.description for column in table.columns}
    return _row_model(name, pa.schema(fields), table.grain, words)


def _page_of(row: type[BaseModel]) -> Any:
    return create_model(f"{row.__name__}Page", __base__=Page, __doc__=f"Page of {row.__name__}.", rows=(list[row], ...))  # type: ignore[valid-type]


Bars = _page_of(_of_table("Bar", GOLD_BARS_1M, NULLABLE))
Trades = _page_of(_of_table("Trade", SILVER_TRADES))
Indicators = _page_of(_of_table("Indicators", GOLD_INDICATORS_1M))
Moves = _page_of(_of_table("Move", GOLD_MOVES))
Spreads = _page_of(_of_table("Spread", GOLD_SPREADS_1M))
_CERTIFICATES = _page_of(
    _row_model(
        "Certificate",
        BAR_CERTIFICATE,
        "One row per market, or per market and bar: which trade ids of the range there are.",
        {
            "bar_start": "Start of the bar, if a size was asked for.",
            "complete": "No id is missing, and the ledger knows trades from before the range to behind it.",
            "expected": "present + open + unavailable.",
            "repaired": "Ids that are present and came over REST.",
            "open": "Ids that are missing and will be asked for.",
            "unavailable": "Ids that the venue did not have.",
        },
        optional=("bar_start",),
    )
)
Certificates = create_model(
    "Certificates", __base__=_CERTIFICATES, __doc__="Certificates, and their proof.", proof=(Proof, ...)
)
