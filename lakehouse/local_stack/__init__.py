"""One lakehouse on one machine, run by one command: its child processes, its folder, its screen, its end.

`supervise.LocalStack` starts and keeps the broker, the simulated exchange (demo only) and Dagster's code server,
daemon and webserver; the streams themselves are Dagster's to start. Nothing here imports dagster: its parts are child
processes, and `dagster dev` is not used because its five processes take 747 MB instead of 441 MB.
"""
