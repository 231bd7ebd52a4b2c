"""An exchange on localhost: the venues' own protocols, a seeded market, and a record of the whole truth.

It shares no code with `lakehouse.exchanges`, because it is what that package is judged by.

Layout: `record` (the truth on disk) ← `market` (what trades) ← `exchange` (who hears of it) ← `binance`, `kraken`,
`coinbase` (protocols) ← `routes` (REST and admin) ← `server`. Every outgoing frame passes through `faults`.

What can go wrong: `fault_kinds` (the catalogue) ← `fault_frames`, `fault_lane` (one connection) ← `fault_box` (all of
them), `fault_schedule`. The venues' own `limits` are always in force. None of it can reach the record.
"""
