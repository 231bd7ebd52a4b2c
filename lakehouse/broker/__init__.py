"""Kafka: run a broker on this machine (embedded), create topics, read offsets, messages and prices of any broker."""
