"""Coinbase: trade stream, REST history and names."""
