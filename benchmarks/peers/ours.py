"""Ours: Bronze, Silver and Gold with every guarantee, from an empty lake to the newest message.

Does the same as `lakehouse stream all --trigger available-now`. Settings come by LAKEHOUSE_* variables, as anywhere.
"""

from __future__ import annotations

from lakehouse.settings import load_settings
from lakehouse.streams.materialize import materialize

if __name__ == "__main__":
    materialize(load_settings())
