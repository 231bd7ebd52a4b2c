"""The simulated Coinbase: rules of its markets, rate limits, texts of refusals, and addresses (docs/venues.md)."""

from __future__ import annotations

from lakehouse.simulator.faults.http_refusals import RESTRICTED
from lakehouse.simulator.faults.model import RestReply
from lakehouse.simulator.faults.words import VenueWords, json_body
from lakehouse.simulator.instruments import MarketRules
from lakehouse.simulator.limits import Limit, VenueLimits
from lakehouse.simulator.profile import VenueProfile
from lakehouse.simulator.venues.coinbase.connection import CoinbaseConnection
from lakehouse.simulator.venues.coinbase.rest import trades
from lakehouse.simulator.venues.model import SimulatedVenue

_PROFILE = VenueProfile(
    rules=MarketRules(
        venue="coinbase",
        separator="-",
        weight=2.0,
        first_id=700_000_000,
        digits=7,
        least_decimals=2,
        most_decimals=8,
        drops_zeros=True,
    ),
    limits=VenueLimits(rest=Limit(15, 1.5, sliding=False)),  # 10 requests/s, burst of 15; no figure for connections
    words=VenueWords(
        not_now=("rate limit exceeded", "please try again"),
        named_not_now="{} is temporarily unavailable",
        too_many=json_body({"message": "Public rate limit exceeded"}),
        restricted=json_body({"message": RESTRICTED}),
        errors=(RestReply(json_body({"message": "Internal server error"}), 500),),
    ),
)


VENUE = SimulatedVenue(
    profile=_PROFILE,
    sockets={"": lambda exchange, transport, query, _parts: CoinbaseConnection(exchange, transport, query)},
    rest={"/products/{product}/trades": trades},
    recorded_names=lambda message: message.get("product_ids"),
)
