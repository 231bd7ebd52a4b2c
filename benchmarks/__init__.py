"""What the lakehouse costs beside the usual ways to do the same: seeded, self-contained, peers paired within a round.

`python -m benchmarks --help`; docs/performance.md tells what each figure means.
"""
