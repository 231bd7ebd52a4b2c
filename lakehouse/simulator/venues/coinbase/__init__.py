"""The simulated Coinbase: its WebSocket connection, REST replies, limits and names."""
