"""The comparison: one topic, filled once; in each round every peer from an empty folder, one after the other.

A ratio is of two runs of the same round, so a machine that gets slower in the course of an hour moves both.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import contenders, report
from benchmarks.contenders import PEERS, Job, Peer
from benchmarks.data import DAY_US, VENUES, Tape
from benchmarks.figures import Run
from benchmarks.home import RESULTS, ROOT, bench_home, fill
from benchmarks.machine import machine, machine_line
from lakehouse.broker.topics import ensure_topics
from lakehouse.settings import Settings, load_settings

#: At thousands of messages a second the whole topic would take tens of minutes in each round.
QUIX_MESSAGES = 200_000
#: Not tuned yet: it is to be the best of 100,000, 200,000 and 500,000 on a topic of millions, on a quiet machine.
LOOP_BATCH = 200_000


class Topic(NamedTuple):
    """Input of the peers: the settings that name the topic, and its contents."""

    settings: Settings
    messages: int
    trades: int  #: distinct ones


def main(arguments: list[str]) -> int:
    """Run the comparison; exit code 1 if ours failed or was not exact."""
    options = parse(arguments)
    folder = RESULTS / f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    about = {"machine": machine(), "options": vars(options) | {"write_docs": bool(options.write_docs)}}
    print(machine_line(), flush=True)
    runs: list[Run] = []
    with bench_home() as settings:
        messages = fill_topic(settings, options)
        whole = Topic(settings, messages, options.trades)
        part = fill_part(settings, options) if any(PEERS[name].bounded for name in options.peers) else whole
        for number in range(1, options.runs + 1):
            for name in options.peers:
                topic = part if PEERS[name].bounded else whole
                runs.append(one(PEERS[name], number, topic, options.loop_batch, folder))
                report.write_runs(folder, about, runs)  # Keeps what is done, whatever comes.
    lines = report.comparison(runs)
    title = f"{options.trades:,} trades, {options.runs} rounds\n{machine_line()}"
    report.show(lines, report.HEADERS, title)
    print(f"results: {folder.relative_to(ROOT)}")
    publish(runs, lines, options, folder)
    ours = [run for run in runs if run.peer == "ours"]
    wrong = [run for run in ours if run.error or (run.silver_rows, run.bar_trades) != (run.trades, run.trades)]
    return 1 if wrong else 0


def fill_topic(settings: Settings, options: argparse.Namespace) -> int:
    """Fill the topic; return the number of messages."""
    tape = _tape(options)
    messages, seconds = fill(settings, tape.take(options.trades, options.days * DAY_US))
    print(f"topic: {messages:,} messages, {tape.repeats:,} of them repeats, in {seconds:.1f} s", flush=True)
    return messages


def fill_part(settings: Settings, options: argparse.Namespace) -> Topic:
    """Copy the first messages into a topic of their own."""
    topic = f"{settings.topic_trades}.first"
    part = load_settings(home=settings.home, bootstrap_servers=settings.bootstrap(), topic_trades=topic)
    ensure_topics(part)
    tape = _tape(options)
    first = itertools.islice(tape.take(options.trades, options.days * DAY_US), options.quix_trades)
    messages, _ = fill(part, first)
    return Topic(part, messages, messages - tape.repeats)


def _tape(options: argparse.Namespace) -> Tape:
    return Tape(options.seed, options.symbols, VENUES, options.raw, options.duplicates)


def one(peer: Peer, number: int, topic: Topic, loop_batch: int, folder: Path) -> Run:
    """Run one peer in one round."""
    out = topic.settings.home / f"{peer.name}-{number}"
    out.mkdir()
    job = Job(topic.settings, topic.messages, out, folder, loop_batch)
    costs = contenders.run_peer(peer, job)
    failed = costs[-1].exit_code != 0
    counts = (None, None) if failed else peer.count(job)
    run = Run(
        number,
        peer.name,
        topic.trades,
        topic.messages,
        sum(cost.seconds for cost in costs),
        sum(cost.cpu_seconds for cost in costs),
        max(cost.peak_rss for cost in costs),
        *counts,
        error=f"exit code {costs[-1].exit_code}: {contenders.last_words(job)}" if failed else "",
    )
    shutil.rmtree(out, ignore_errors=True)
    steps = " + ".join(f"{cost.seconds:.1f}" for cost in costs)
    print(
        f"[{time.strftime('%H:%M:%S')}] round {number} {peer.name:9} {run.rate:>9,.0f} trades/s  {steps} s  "
        f"cpu {run.cpu_seconds:.1f} s  rss {run.peak_rss / 1e9:.2f} GB  "
        f"silver {run.silver_rows}  bars {run.bar_trades}  {run.error}",
        flush=True,
    )
    return run


def publish(runs: list[Run], lines: list[tuple[str, ...]], options: argparse.Namespace, folder: Path) -> None:
    """Write the plots beside the results and, with --write-docs, plots and table in docs."""
    from benchmarks import plots

    plots.compare(runs, folder / "peers.svg")
    if options.write_docs:
        picture = f"images/performance-{options.block}.svg"
        plots.compare(runs, ROOT / "docs" / picture)
        text = (
            f"{options.trades:,} trades in {max(run.messages for run in runs):,} messages, "
            f"{options.symbols} symbols on {len(VENUES)} venues, raw {options.raw}, seed {options.seed}, "
            f"{options.runs} rounds, "
            f"{dt.datetime.now(dt.UTC):%d %B %Y}.\n{machine_line()}.\n\n"
            + report.markdown(lines, report.HEADERS)
            + f"\n\n![Trades per second of each peer]({picture})"
        )
        report.replace_block(ROOT / "docs" / "performance.md", options.block, text)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--trades", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"comma-separated, in their order: {', '.join(PEERS)}")
    parser.add_argument("--symbols", type=int, default=10, help="on each venue (default 10)")
    parser.add_argument("--days", type=int, default=1, help="of event time over which they are spread (default 1)")
    parser.add_argument("--raw", choices=("full", "none"), default="full", help="the venue's own object in a message")
    parser.add_argument("--duplicates", type=float, default=0.01, help="share of trades that come twice (default 0.01)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loop-batch", type=int, default=LOOP_BATCH, help="messages the loop takes at once")
    parser.add_argument("--quix-trades", type=int, default=QUIX_MESSAGES, help="first messages that quix gets")
    parser.add_argument("--write-docs", action="store_true", help="put table and plot into docs/performance.md")
    parser.add_argument(
        "--block", choices=("peers", "quix"), default="peers", help="which table of docs/performance.md"
    )
    options = parser.parse_args(arguments)
    options.peers = [name.strip() for name in options.peers.split(",") if name.strip()]
    for name in options.peers:
        if name not in PEERS:
            parser.error(f"unknown peer {name!r}; expected some of {', '.join(PEERS)}")
    if options.runs < 1 or options.trades < 1 or not options.peers:
        parser.error("at least one trade, one round and one peer")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
