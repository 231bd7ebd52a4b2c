"""Kraken: trade stream, REST history and names."""
