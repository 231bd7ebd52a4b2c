"""The trade ids of each (venue, symbol): which are present, missing or unavailable; the ledger table that says so."""
