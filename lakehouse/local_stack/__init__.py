"""One lakehouse on one machine, run by one command: its child processes, its folder, its screen, its shutdown.

`supervise.LocalStack` starts and keeps the broker, the simulated exchange (demo only) and Dagster's code server,
daemon and webserver; Dagster starts ingest and the streams. Nothing here imports dagster: its parts are child
processes. `dagster dev` is not used because its five processes take 747 MB instead of 441 MB.
"""
