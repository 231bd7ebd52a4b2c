"""`python -m tests.faults.refusals`: `lakehouse demo` for ten minutes while the venues refuse in every way they know.

Handshakes (403, 418, 429, 451, 503), subscriptions for now, symbols that a venue has no more, REST limits and errors.
At the end every symbol that the exchange lists is subscribed (`quiet`), and the verdict is that of the fault suite.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.demo_system import DemoSystem
from tests.faults.plan import Fault, Step
from tests.faults.scenario import Scenario, run

#: Wanted of all venues; LOOM/USDC is listed by one of them only, AAPLx/USD and 币安人生/USDT are names of another form.
SYMBOLS = "BTC/USDT,ETH/USDT,SOL/USDT,LOOM/USDC,AAPLx/USD,币安人生/USDT"
DELISTED = ("binance:LOOM/USDC", "coinbase:LOOM/USDC", "coinbase:AAPLx/USD", "kraken:币安人生/USDT")

#: Part of the time → venue, kind, seconds, parameters. A blocked place (451, 403) keeps ingest away for minutes, so
#: these two come first on a venue.
_TURNS: tuple[tuple[float, str, str, float, dict[str, Any]], ...] = (
    (0.00, "binance", "handshake_refused", 4.0, {"status": "451", "form": "none"}),
    (0.02, "kraken", "refuse_passing", 15.0, {"how": "named"}),
    (0.05, "coinbase", "refuse_passing", 15.0, {"how": "nameless"}),
    (0.09, "kraken", "refuse_passing", 10.0, {"how": "bare", "times": 2}),
    (0.12, "coinbase", "handshake_refused", 8.0, {"status": "429", "form": "decimals"}),
    (0.15, "kraken", "rest_429", 10.0, {}),
    (0.18, "kraken", "kraken_rate_limit", 10.0, {}),
    (0.21, "coinbase", "refuse_passing", 15.0, {"how": "named"}),
    (0.25, "coinbase", "rest_418", 10.0, {}),
    (0.28, "coinbase", "handshake_refused", 8.0, {"status": "503", "form": "seconds"}),
    (0.31, "kraken", "refuse_passing", 15.0, {"how": "nameless"}),
    (0.35, "kraken", "handshake_refused", 4.0, {"status": "403", "form": "none"}),
    (0.48, "binance", "refuse_passing", 15.0, {"how": "named"}),
    (0.52, "binance", "refuse_passing", 15.0, {"how": "nameless"}),
    (0.56, "binance", "refuse_passing", 10.0, {"how": "bare"}),
    (0.60, "binance", "handshake_refused", 8.0, {"status": "418", "form": "seconds", "retry_after": 9}),
    (0.65, "binance", "rest_418", 10.0, {}),
    (0.68, "coinbase", "rest_error", 10.0, {}),
    (0.72, "binance", "handshake_refused", 8.0, {"status": "429", "form": "date"}),
    (0.78, "binance", "rest_429", 10.0, {}),
    (0.82, "coinbase", "refuse_passing", 15.0, {"how": "bare"}),
    (0.88, "coinbase", "handshake_refused", 5.0, {"status": "418", "form": "date"}),
)


def plan(seconds: float) -> tuple[Step, ...]:
    """Every refusal, spread over so many seconds."""
    return tuple(
        Step(part * seconds, fault=Fault(kind, venue, None, length, 1.0, parameters))
        for part, venue, kind, length, parameters in _TURNS
    )


def main(arguments: list[str] | None = None) -> int:
    """Run it. Exit code 0 if everything is exact."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.refusals", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=1000.0, help="trades per second")
    parser.add_argument("--drain", type=float, default=600.0, help="seconds to drain at most")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that passed, too")
    parser.add_argument("--folder", type=Path, default=Path(".lakehouse/faults"), help="where its folder goes")
    options = parser.parse_args(arguments)
    more = ["--symbols", SYMBOLS, *(word for one in DELISTED for word in ("--delisted", one))]
    steps = plan(options.minutes * 60)
    scenario = Scenario(0, options.minutes, options.rate, 0, len(steps), options.drain, options.keep, steps)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)

    def build(home: Path) -> DemoSystem:
        return DemoSystem(home, options.rate, more)

    outcome = run(scenario, "refusals", build, options.folder.absolute() / "refusals", say)
    print(outcome.line())
    for failure in outcome.failures:
        print(f"  {failure}")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
