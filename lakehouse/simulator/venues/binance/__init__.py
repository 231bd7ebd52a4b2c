"""The simulated Binance: its WebSocket connection, REST replies, limits and names."""
