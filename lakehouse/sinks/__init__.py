"""Stores of other programs that follow Gold: PostgreSQL or TimescaleDB, and Redis. No stream depends on them."""
