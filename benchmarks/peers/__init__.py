"""One module per peer: a script that reads the topic from its first message to its last and ends.

Each gets `--bootstrap`, `--topic`, `--messages` (how many the topic holds) and `--out` (an empty folder for its
tables). None imports anything of `benchmarks` that costs time at its start.
"""
