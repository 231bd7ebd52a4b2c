"""The simulated Kraken: rules of its markets, rate limits, texts of refusals, and addresses (docs/venues.md)."""

from __future__ import annotations

from typing import Any

from lakehouse.simulator.faults.http_refusals import RESTRICTED
from lakehouse.simulator.faults.model import RestReply
from lakehouse.simulator.faults.words import VenueWords, json_body
from lakehouse.simulator.instruments import MarketRules
from lakehouse.simulator.limits import Limit, VenueLimits
from lakehouse.simulator.profile import VenueProfile
from lakehouse.simulator.venues.kraken.connection import KrakenConnection
from lakehouse.simulator.venues.kraken.rest import trades
from lakehouse.simulator.venues.model import SimulatedVenue

_ERRORS = ("EService:Unavailable", "EService:Busy", "EGeneral:Internal error")
_RATE_LIMIT = json_body({"error": ["EAPI:Rate limit exceeded"]})


def _shutdown_notice() -> bytes:
    data = '{"version":"2.0.10","system":"maintenance","api_version":"v2","connection_id":16389994220698793191}'
    return f'{{"channel":"status","type":"update","data":[{data}]}}'.encode()


_PROFILE = VenueProfile(
    rules=MarketRules(
        venue="kraken",
        separator="/",
        weight=1.0,
        first_id=80_000_000,
        digits=6,
        least_decimals=1,
        most_decimals=10,
    ),
    limits=VenueLimits(
        rest=Limit(3, 3.0, sliding=False),  # "About 1 request/s is safe", with a burst of 3
        attempts=Limit(150, 600.0, ban=600.0),
    ),
    words=VenueWords(
        not_now=("Exceeded msg rate", "EService:Unavailable"),
        named_not_now="Trading on {} is suspended",
        too_many=_RATE_LIMIT,
        limited=RestReply(_RATE_LIMIT),  # without a word of when to ask again
        restricted=json_body({"message": RESTRICTED}),
        errors=tuple(RestReply(json_body({"error": [words]})) for words in _ERRORS),  # inside HTTP 200
        shutdown_notice=_shutdown_notice,
    ),
)


def _recorded_names(message: dict[str, Any]) -> Any:
    params = message.get("params")  # of v2; v1 names pairs
    return params.get("symbol") if isinstance(params, dict) else message.get("pair")


VENUE = SimulatedVenue(
    profile=_PROFILE,
    sockets={"/v2": lambda exchange, transport, query, _parts: KrakenConnection(exchange, transport, query)},
    rest={"/0/public/Trades": trades},
    recorded_names=_recorded_names,
)
