"""The protocol of Kraken spot: trade stream, REST history and names of symbols. No I/O."""
