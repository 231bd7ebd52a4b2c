"""State of a lakehouse: one snapshot of the lake, Kafka and Dagster, and its layout for a terminal."""
