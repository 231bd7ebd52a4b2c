"""Quarantined messages judged again with today's rules, and sent again where these find them good.

`run.replay` does it; `judge` says what becomes of each message; `dismiss` settles what a person has looked at and
leaves as it is; `settled` writes down what is settled.
"""
