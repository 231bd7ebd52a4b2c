"""The protocols of the exchanges as pure code: build messages and requests, parse frames and replies. No I/O, no clock.

`registry.venue("binance")` gives a `venue.Venue`; the values that its `parse` returns are in `model`.
"""
