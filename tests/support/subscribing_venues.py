"""Connections of one feed to venues of a few lines, with a clock of their own."""

from __future__ import annotations

import random
from collections.abc import Callable

from lakehouse.exchanges.model import Refused, Subscribed
from lakehouse.ingest.subscribing import Ask, Subscriber
from lakehouse.ingest.subscriptions import Subscriptions

A, B, C, D = "AAA/USD", "BBB/USD", "CCC/USD", "DDD/USD"
Reply = Subscribed | Refused
Answer = Callable[[Ask], list[Reply]]


class Play:
    """Connections of one feed to a venue whose answers are `answer`; `told` are the events."""

    def __init__(self, symbols: list[str], answer: Answer, most: int = 1000, pause: float = 0.0) -> None:
        self.shared = Subscriptions(symbols)
        self.answer, self.most, self.pause = answer, most, pause
        self.now = 0.0
        self.asked: list[tuple[float, tuple[str, ...]]] = []
        self.told: list[tuple[str, str]] = []
        self.connect()

    def connect(self) -> None:
        self.subscriber = Subscriber(self.shared, self.now, random.Random(1), self.most, self.pause)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            ask = self.subscriber.step(self.now)
            if ask is not None:
                self.asked.append((self.now, ask.symbols))
                for reply in self.answer(ask):
                    if isinstance(reply, Subscribed):
                        self.told += [("subscribed", one) for one in self.subscriber.acknowledged(reply, self.now)]
                    else:
                        _, final = self.subscriber.refused(reply, self.now)
                        self.told += [("refused", final)] if final else []
            self.told += [("unsubscribed", symbol) for symbol, _ in self.subscriber.untold(self.now)]
            self.now = round(self.now + 0.01, 2)

    @property
    def groups(self) -> list[tuple[str, ...]]:
        return [symbols for _, symbols in self.asked]


def joint(bad: dict[str, bool], names: bool = True, words: str = "is out of order") -> Answer:
    """A venue that refuses all for one bad symbol, as Coinbase; `bad` → whether its words are final."""

    def answer(ask: Ask) -> list[Reply]:
        wrong = next((symbol for symbol in ask.symbols if symbol in bad), None)
        if wrong is None:
            return [Subscribed(ask.symbols)]
        return [Refused(f"{wrong} {words}", wrong if names else None, bad[wrong], is_whole=True)]

    return answer


def kraken(refusals: list[Callable[[int], Refused]], symbol: str = B) -> Answer:
    """A venue that answers each symbol; the first requests for one of them get these refusals."""

    def answer(ask: Ask) -> list[Reply]:
        replies: list[Reply] = []
        for one in ask.symbols:
            if one == symbol and refusals:
                replies.append(refusals.pop(0)(ask.number))
            else:
                replies.append(Subscribed((one,), ask.number, is_one=True))
        return replies

    return answer


def rate(request: int | None) -> Refused:
    return Refused("Exceeded msg rate", request=request)
