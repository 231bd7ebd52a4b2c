"""What runs and how far it is: one snapshot of the lake, Kafka and Dagster, and its rendering."""
