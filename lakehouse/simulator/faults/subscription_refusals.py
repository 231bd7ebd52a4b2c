"""How a venue refuses a subscription for now, in its words: our rate, its own trouble, or nothing that tells."""

from __future__ import annotations

from random import Random

from lakehouse.simulator.faults.model import SubscriptionRefusal

#: How a passing refusal is told: with the symbol's name, without it, or without anything but the words (no number of
#: the request, no method). Coinbase's replies have no such fields, so `bare` is `nameless` there.
HOW = ("named", "nameless", "bare")

_NAMELESS = {
    "binance": ("Too many requests", "Internal error; unable to process your request. Please try again."),
    "kraken": ("Exceeded msg rate", "EService:Unavailable"),
    "coinbase": ("rate limit exceeded", "please try again"),
}
_NAMED = {
    "binance": "Invalid request: {} is not available now",
    "kraken": "Trading on {} is suspended",
    "coinbase": "{} is temporarily unavailable",
}


def subscription_refusal(venue: str, native: str, how: str, random: Random) -> SubscriptionRefusal:
    """The refusal of a symbol, of which `native` is the venue's name."""
    way = how if how in HOW else random.choice(HOW)
    words = _NAMED[venue].format(native) if way == "named" else random.choice(_NAMELESS[venue])
    return SubscriptionRefusal(words, way == "named", way == "bare")
