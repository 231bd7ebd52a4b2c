"""Rules about market data that every layer shares: the form of symbols, venues' names, and the check of the clock."""
