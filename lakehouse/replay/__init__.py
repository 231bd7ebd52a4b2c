"""Replay: check quarantined messages again by the present rules, and send those that now pass to Kafka again.

`run.replay` does it; `judge` gives the verdict on each message; `settle` records which messages are settled (no longer
open), and dismisses those that a person has looked at and that need no action.
"""
