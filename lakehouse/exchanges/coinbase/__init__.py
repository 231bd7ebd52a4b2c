"""The protocol of Coinbase Exchange: trade stream, REST history and names of symbols. No I/O."""
