"""Latest trades of every market, read from Kafka: for the API and for the sinks."""
