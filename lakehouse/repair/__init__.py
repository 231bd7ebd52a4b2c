"""Repair of gaps over REST, beside a running ingest or without one."""
