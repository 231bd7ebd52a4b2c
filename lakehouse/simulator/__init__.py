"""A simulated exchange on localhost: the venues' own protocols, a seeded market, and a record of every trade made.

It shares no code with `lakehouse.exchanges`, because tests judge that package by the simulator.

Layout: `record` (the truth on disk) ← `market` (trades) ← `exchange` (hands them to clients) ← `connection`, `history`
← `venues/<venue>` (protocols) ← `routes` ← `server`. Every outgoing frame passes through `faults`.

Faults: `faults/kinds` (the catalogue) ← `faults/frame_faults`, `faults/connection_faults` (one connection) ←
`faults/injector` (all connections); `faults/schedule` draws them. The venues' own `limits` are always in force. No
fault can reach the record.
"""
