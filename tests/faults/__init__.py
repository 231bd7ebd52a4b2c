"""The fault suite: random kills and faults under load, then quiet, then the comparison with the exchange's record.

python -m tests.faults --seed 1 --minutes 10 --rate 1000       one seed on the whole lakehouse, as a user starts it
python -m tests.faults --seeds 1-20 --minutes 2 --kills 12     twenty of them
python -m tests.faults --seeds 1-2 --no-dagster --minutes 1.25 --rate 250      light: without Dagster
python -m tests.faults.outage                                  a measured outage of 60 s
python -m tests.faults.stream_storm                            200 clients of /v1/stream under kills, then the record
python -m tests.faults.kill_points                             kill -9 exactly between two commits
python -m tests.faults.rebuild_killed                          kill -9 of `lakehouse rebuild silver`, at every step
python -m tests.faults.mutations                               the suite must fail where a guarantee is switched off
"""
