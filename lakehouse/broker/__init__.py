"""Kafka: an embedded single-node broker for the laptop, and the topics on whichever broker is used."""
