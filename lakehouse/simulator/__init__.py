"""An exchange on localhost: the venues' own protocols, a seeded market, and a record of the whole truth.

It shares no code with `lakehouse.exchanges`, because it is what that package is judged by.

Layout: `record` (the truth on disk) ← `market` (trades) ← `exchange` (hands them to clients) ← `connection`, `history`
← `venues/<venue>` (protocols) ← `routes` ← `server`. Every outgoing frame passes through `faults`.

Faults: `faults/kinds` (the catalogue) ← `faults/frame_faults`, `faults/connection_faults` (one connection) ←
`faults/injector` (all connections); `faults/schedule` draws them. The venues' own `limits` are always in force. No
fault can reach the record.
"""
