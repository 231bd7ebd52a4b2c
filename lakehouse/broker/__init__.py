"""Kafka: run a broker on this machine (embedded), create topics, and read offsets and messages of any broker."""
