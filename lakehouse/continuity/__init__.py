"""Trade ids by venue and symbol: which are known, missing or unavailable, and the ledger that says so."""
