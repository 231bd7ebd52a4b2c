"""Cost of the lakehouse compared with the usual ways: seeded, self-contained, peers paired within a round.

`python -m benchmarks --help`; docs/performance.md tells what each figure means.
"""
