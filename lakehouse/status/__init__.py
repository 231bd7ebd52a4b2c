"""State of a lakehouse: one snapshot of the lake, Kafka and Dagster, and its tables for people."""
