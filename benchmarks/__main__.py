"""`python -m benchmarks [SCENARIO] …`: the comparison of peers, or one of the scenarios."""

from __future__ import annotations

import importlib
import sys

#: Name → module with `main(arguments) -> exit code`. Without a name it is the first.
SCENARIOS = {
    "peers": "benchmarks.compare",
    "ingest": "benchmarks.ingest",
    "growth": "benchmarks.growth",
    "latency": "benchmarks.latency",
    "disk": "benchmarks.disk",
    "steps": "benchmarks.steps",
    "soak": "benchmarks.soak",
    "api": "benchmarks.api",
    "client": "benchmarks.client",
    "log": "benchmarks.log_length",
    "scale": "benchmarks.scale",
    "requests": "benchmarks.requests",
}


def main(arguments: list[str]) -> int:
    """Run the scenario named first."""
    name, rest = "peers", arguments
    if arguments and not arguments[0].startswith("-"):
        name, rest = arguments[0], arguments[1:]
    if name not in SCENARIOS:
        print(f"unknown scenario {name!r}; expected one of {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(SCENARIOS[name]).main(rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
