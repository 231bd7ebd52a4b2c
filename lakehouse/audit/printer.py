"""Print a report as tables for people: every figure of the proof, the faults, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lakehouse.audit.report import Report
from lakehouse.audit.simulated import SimulatedProof
from lakehouse.quality.model import count_of

_NOTHING = "–"
#: Most faults that are printed; `--json` has all.
SHOWN_FAULTS = 20


def render(report: Report) -> RenderableType:
    """Lay out an audit's report for a terminal: figures, notes, faults, verdict. Ordinary figures fit 80 columns."""
    parts: list[RenderableType] = [_headline(report), _kafka(report), _conservation(report), _bars(report)]
    parts.append(_gaps(report))
    if report.quarantine:
        parts.append(_quarantine(report))
    parts.append(_books(report))
    if report.simulated is not None:
        parts.append(_record(report.simulated))
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    parts += [Text(f"WRONG: {fault}", style="bold red") for fault in report.faults[:SHOWN_FAULTS]]
    if len(report.faults) > SHOWN_FAULTS:
        parts.append(Text(f"… and {len(report.faults) - SHOWN_FAULTS:,} more", style="bold red"))
    parts.append(_verdict(report))
    return Group(*parts)


def _headline(report: Report) -> Text:
    versions = report.versions
    old = age((report.taken_at - versions.snapshot_at).total_seconds())
    text = Text.assemble(("Audit of ", "bold"), (report.home, "bold"))
    text.append(
        f"\nSnapshot of {versions.snapshot_at:%Y-%m-%d %H:%M:%S} UTC, {old} old: bronze/messages version "
        f"{versions.bronze}, silver/trades {versions.trades}, "
        + ", ".join(f"{path.removeprefix('gold/')} {version}" for path, version in versions.bars.items())
    )
    behind = [f"{report.rows_not_yet:,} rows of silver/trades are newer"]
    if report.messages_not_yet is not None:
        behind.append(f"{report.messages_not_yet:,} messages of Kafka are")
    text.append(f"\nNot in it yet: {', '.join(behind)}. Kafka: {report.kafka}", style="dim")
    return text


def _kafka(report: Report) -> Table:
    title, topics = "Kafka offsets = rows of bronze/messages, each once", _short_topics(report)
    table = grid(title, ("topic", "part"), ("Kafka has", "bronze first", "last", "rows", "missing", "twice"))
    for one in report.partitions:
        kafka = _NOTHING if one.kafka_next is None else f"{one.kafka_first:,}–{max(0, one.kafka_next - 1):,}"
        if one.kafka_next is not None and one.kafka_next == one.kafka_first:
            kafka = "nothing"
        cells = [_NOTHING if place is None else f"{place:,}" for place in (one.first, one.last)]
        counts = (one.bronze_rows, one.missing, one.bronze_rows - one.messages)
        table.add_row(topics[one.topic], str(one.partition), kafka, *cells, *map(_number, counts))
    return table


def _conservation(report: Report) -> Table:
    figures = ("messages", "trades", "duplicates", "quarantined", "feed_events", "unaccounted")
    table = grid(
        "Messages of Bronze = Silver's trades + proved duplicates + quarantined + feed events, by lineage",
        ("topic", "part"),
        ("bronze", "= trades", "+ dupl.", "+ quar.", "+ events", "lost"),
    )
    topics = _short_topics(report)
    for one in report.partitions:
        table.add_row(topics[one.topic], str(one.partition), *(_number(getattr(one, name)) for name in figures))
    table.add_section()
    table.add_row("all", "", *(_number(report.total(name)) for name in figures), style="bold")
    return table


def _bars(report: Report) -> Table:
    headings = ("bars", "Σ trades", "silver rows", "wrong", "complete")
    table = grid("Σ trades of the bars = rows of Silver", ("bars",), headings)
    for one in report.bars:
        counts = (one.bars, one.trades, one.silver_rows, one.wrong)
        table.add_row(one.table_path, *map(_number, counts), f"{one.complete:,} of {one.bars:,}")
    return table


def _gaps(report: Report) -> Table:
    table = grid(
        f"Trade ids by the ledger silver/continuity, at silver/trades version {report.holes.trades_version}",
        ("venue", "symbol"),
        ("first", "last", "present", "in ranges", "by REST", "open", "gone"),
    )
    figures = ("present", "ranges", "repaired", "open", "unavailable")
    for one in report.holes.symbols:
        counts = (getattr(one, name) for name in figures)
        table.add_row(one.venue, one.symbol, str(one.first_id), str(one.last_id), *map(_number, counts))
    table.add_section()
    table.add_row("all", "", "", "", *(_number(report.holes.total(name)) for name in figures), style="bold")
    oldest = min((one.oldest_open for one in report.holes.symbols if one.oldest_open), default=None)
    captions: list[str] = []
    if oldest is not None:
        since = age((report.taken_at - oldest).total_seconds())
        captions.append(f"{count_of(report.holes.total('open_holes'), 'gap')} open, the oldest for {since}")
    tries: Counter[int] = Counter()
    for one in report.holes.symbols:
        tries.update(one.tries)
    if tries:
        after = ", ".join(
            f"{count_of(ids, 'id')} after {count_of(number, 'answer')} of the venue"
            for number, ids in sorted(tries.items())
        )
        captions.append(f"gone: {after}; `lakehouse repair --unavailable` asks again")
    table.caption, table.caption_justify = "\n".join(captions) or None, "left"
    return table


def _quarantine(report: Report) -> Table:
    table = grid("Quarantine by rule", ("rule",), ("messages", "open"))
    for one in report.quarantine:
        table.add_row(one.rule, _number(one.messages), _number(one.open))
    return table


def _books(report: Report) -> Table:
    table = grid(
        "ops/batches: every batch balances and begins where the one before it ended",
        ("query",),
        ("batches", "checkpoints", "in", "out", "dupl.", "quar.", "events"),
    )
    for one in report.books:
        table.add_row(one.query, _number(one.batches), _number(one.generations), *map(_number, one.counts.figures))
    return table


def _record(proof: SimulatedProof) -> Table:
    table = grid(
        f"silver/trades = the record of the simulated exchange at {proof.url}",
        ("venue", "symbol"),
        ("equal", "unlike", "missing", "invented", "before first", "not yet"),
    )
    figures = ("equal", "unlike", "missing", "not_recorded", "before_first", "not_yet")
    for one in proof.markets:
        table.add_row(one.venue, one.symbol, *(_number(getattr(one, name)) for name in figures))
    table.add_section()
    table.add_row("all", "", *(_number(proof.total(name)) for name in figures), style="bold")
    return table


def _verdict(report: Report) -> Text:
    if not report.exact:
        found = count_of(len(report.faults), "fault")
        return Text(f"NOT EXACT: {found} ({report.seconds:.1f} s)", style="bold red")
    open_ids = report.holes.total("open")
    messages, trades = count_of(report.total("messages"), "message"), count_of(report.silver_rows, "trade")
    found = f"EXACT: each of {messages} is accounted for, each of {trades} is there once"
    if report.simulated is not None:
        found += f", {report.simulated.total('equal'):,} equal the exchange's record"
    if open_ids:
        found += f"; {count_of(open_ids, 'trade id')} still missing in open gaps"
    return Text(f"{found} ({report.seconds:.1f} s)", style="bold green")


def grid(title: str, left: Iterable[str], right: Iterable[str] = ()) -> Table:
    """Make an empty table: the headings `left` are aligned left, the headings `right` right.

    It has no frames and no wrapped cells, so that it fits into 80 columns.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _short_topics(report: Report) -> dict[str, str]:
    """Map each topic to its name without the common beginning: `crypto.trades` → `trades`."""
    names = {one.topic for one in report.partitions}
    heads = {name.rpartition(".")[0].split(".")[0] for name in names}
    head = f"{heads.pop()}." if len(heads) == 1 else ""
    return {name: name.removeprefix(head) if head != "." else name for name in names}


def _number(value: int) -> str:
    return f"{value:,}"


def age(seconds: float) -> str:
    """Return a length of time in seconds as text: `3 s`, `4 min`, `2 h` or `5 d`; `0 s` if it is negative."""
    seconds = max(0.0, seconds)
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
