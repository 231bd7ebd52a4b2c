"""Replay: check quarantined messages again by the present rules, and send those that now pass to Kafka again.

`run.replay` does both; `judge` gives the verdict on each message; `settle` records which messages are settled (not open
any more), and dismisses messages that a person has looked at and that need no action.
"""
