"""The protocol of Binance spot: trade stream, REST history and names of symbols. No I/O."""
