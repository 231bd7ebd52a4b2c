"""The simulated Kraken: its WebSocket connection, REST replies, limits and names."""
