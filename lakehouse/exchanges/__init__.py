"""Exchanges, pure: subscribe messages out, frames in, values back. No socket, no clock, no Dagster.

`registry.venue("binance")` gives a `venue.Venue`; what its `parse` returns is in `model`.
"""
