"""Binance: trade stream, REST history and names."""
