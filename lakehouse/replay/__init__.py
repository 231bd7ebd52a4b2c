"""Judge quarantined messages again with today's rules, and send the good ones again.

`run.replay` does it; `judge` gives the verdict on each message; `settle` records settled messages, and dismisses those
that a person has looked at and leaves as they are.
"""
