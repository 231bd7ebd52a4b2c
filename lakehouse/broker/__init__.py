"""Kafka: an embedded broker for the laptop, or three of them, and the topics on whichever broker is used."""
