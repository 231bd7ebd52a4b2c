"""The lake over HTTP: `lakehouse serve`. It reads through `lakehouse.client` and Kafka, and writes nothing.

It is a process of its own: no stream waits for it, and no stream notices if it ends. `server` listens, `guard` keeps
limits and the key, `routes` has the paths, `reader` finds the rows, `prices.follower` follows Kafka.
"""
