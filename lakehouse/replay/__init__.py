"""Quarantined messages judged again with today's rules, and sent again where these find them good.

`run.replay` does it; `judge` says what becomes of each message.
"""
