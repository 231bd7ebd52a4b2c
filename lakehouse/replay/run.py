"""`lakehouse replay`: judge the open messages in quarantine again, and produce the good ones again.

Guarantee: a message counts as settled (ops/replays) only after Kafka has acknowledged the messages produced for it. A
crash between the two makes the next replay send them once more, which Silver counts as duplicates; nothing is ever
lost. The replayed messages come like any others, at new offsets, so all counts of the streams still hold.
Limit: a feed event that is replayed twice is in the table twice. Messages of the rule `conflict` are left alone unless
`--rule` names it: the trade that came first stays in Silver, so the other would only come back to quarantine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from lakehouse.broker.topics import ensure_topics, wait_until_ready
from lakehouse.errors import RetriableError
from lakehouse.ingest.producer import KafkaSink, MessageTooLargeError
from lakehouse.lake import table_io
from lakehouse.lake.lease import Lease
from lakehouse.lake.quarantine import open_messages, open_quarantine, require_rule
from lakehouse.replay.clocks import Clocks
from lakehouse.replay.judge import BAD, KnownSymbols, Verdict, judge
from lakehouse.replay.settle import record
from lakehouse.settings import Settings
from lakehouse.streams.dedup import CONFLICT

#: Rules whose messages are replayed only if `--rule` names the rule.
LEFT_ALONE = (CONFLICT,)
#: Most seconds for the broker to answer at the start, and to acknowledge the messages of one batch.
BROKER_SECONDS, FLUSH_SECONDS = 10.0, 60.0


@dataclass
class RuleReport:
    """The counts of a replay for the quarantined messages that failed one rule.

    `open` counts all of them before the replay. Those judged are counted by outcome: `sent` were produced again,
    `noise` hold neither a trade nor a fault and are settled as well, `bad` stay in quarantine.
    """

    rule: str
    open: int
    sent: int = 0
    noise: int = 0
    bad: int = 0
    trades: int = 0  #: trades produced for the messages sent
    alone: int = 0  #: bad messages with a time in the future, unlike the venue's other trades of that minute
    detail: str = field(default="", compare=False)  #: why the first message that is still bad is so, if known

    @property
    def settled(self) -> int:
        return self.sent + self.noise

    @property
    def unseen(self) -> int:
        """Number of messages that were not judged: the rule is left alone, or the limit was reached first."""
        return max(0, self.open - self.settled - self.bad)


@dataclass
class ReplayReport:
    """The result of a replay, as counts by rule; for a dry run (`dry`) the result that it would have."""

    dry: bool
    rules: dict[str, RuleReport] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        return sum(rule.settled for rule in self.rules.values())

    @property
    def trades(self) -> int:
        return sum(rule.trades for rule in self.rules.values())

    def count(self, rule: str, verdict: Verdict) -> None:
        """Count the verdict on one message that failed `rule`."""
        report = self.rules.setdefault(rule, RuleReport(rule, 0))
        setattr(report, verdict.outcome, getattr(report, verdict.outcome) + 1)
        report.trades += verdict.trades
        report.alone += verdict.is_alone
        report.detail = report.detail or verdict.detail


def replay(
    settings: Settings, rule: str | None = None, dry_run: bool = False, limit: int | None = None
) -> ReplayReport:
    """Judge the open messages in quarantine again, and send those that now pass to Kafka; settle at most `limit`.

    `rule` chooses the messages that failed it; None: those of all rules but `conflict`. With `dry_run` they are only
    judged, and nothing is sent or settled. Raises SettingError for a rule that no message has failed,
    BrokerUnavailableError, LeaseHeldError if another replay runs, RetriableError if Kafka did not acknowledge,
    TerminalError if Kafka takes no more messages. Messages settled before an error stay settled.
    """
    if rule is not None:
        require_rule(settings, rule)
    if dry_run:
        return _replay(settings, rule, limit, None)
    with Lease(settings, ("replay",), f"replay:{os.getpid()}"):
        table_io.ensure_tables(settings)
        bootstrap = settings.bootstrap()
        wait_until_ready(bootstrap, BROKER_SECONDS)
        partitions = ensure_topics(settings)[settings.topic_trades]
        return _replay(settings, rule, limit, _Outbox(settings, bootstrap, partitions))


def _replay(settings: Settings, rule: str | None, limit: int | None, outbox: _Outbox | None) -> ReplayReport:
    report, known = ReplayReport(dry=outbox is None), KnownSymbols(settings)
    for name, count in open_quarantine(settings).items():
        if rule in (None, name):
            report.rules[name] = RuleReport(name, count)
    clocks = Clocks(settings)
    for rows in open_messages(settings, rule, () if rule else LEFT_ALONE):
        settled: list[tuple[int, Verdict]] = []
        verdicts = judge(rows, settings, clocks, known)
        for number, verdict in enumerate(verdicts):
            if limit is not None and report.settled >= limit:
                break
            taken = verdict if outbox is None or outbox.takes(verdict) else BAD
            report.count(rows["rule"][number].as_py(), taken)
            if taken.outcome != "bad":
                settled.append((number, taken))
        if outbox is not None and settled:
            outbox.flush()
            _record(settings, rows, settled)
        if limit is not None and report.settled >= limit:
            break
    return report


class _Outbox:
    """Produce messages, and wait until Kafka has acknowledged every one."""

    def __init__(self, settings: Settings, bootstrap: str, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._sink = KafkaSink(bootstrap, *settings.topics, partitions=partitions, client_id="replay")

    def takes(self, verdict: Verdict) -> bool:
        """Hand over the messages of a verdict. False if one is too large for Kafka: it cannot be replayed."""
        try:
            for message in verdict.produce:
                self._sink.verbatim(message.topic, message.value, message.key, message.market)
        except MessageTooLargeError:
            return False
        return True

    def flush(self) -> None:
        """Wait for Kafka. Raises RetriableError or TerminalError if it has not acknowledged every message."""
        unflushed = self._sink.flush(time.monotonic() + FLUSH_SECONDS)
        self._sink.check()
        if unflushed:
            raise RetriableError(
                f"Kafka at {self._bootstrap} has not acknowledged {unflushed:,} messages within {FLUSH_SECONDS:g} s",
                "all",
                "replay again: what it may have taken all the same counts as a duplicate",
            )


def _record(settings: Settings, rows: pa.Table, settled: Sequence[tuple[int, Verdict]]) -> None:
    """Put the settled messages into ops/replays, in one commit."""
    chosen = rows.take(pa.array([number for number, _ in settled], pa.int64()))
    record(settings, chosen, [{"outcome": verdict.outcome, "trades": verdict.trades} for _, verdict in settled])
