"""Repair the gaps of the ledger over the venues' REST APIs, beside a running ingest or without one."""
