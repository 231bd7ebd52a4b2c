"""Stores of other programs that follow Gold: PostgreSQL or TimescaleDB, and Redis. They never touch a stream."""
