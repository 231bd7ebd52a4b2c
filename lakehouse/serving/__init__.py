"""The lake over HTTP: `lakehouse serve`. It reads through `lakehouse.client` and Kafka, and writes nothing.

It is a process of its own: no stream waits for it, or is disturbed if it ends. `server` listens, `guard` keeps limits
and checks the key, `routes` has the paths, `reader` finds the rows, `prices.follower` follows Kafka.
"""
