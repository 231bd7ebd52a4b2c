"""Rules about market data that every layer shares: what a symbol is, and whether this machine's clock agrees."""
