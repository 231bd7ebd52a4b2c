"""The types of the table registry: frozen values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layer = Literal["bronze", "silver", "gold", "ops"]

#: Type of prices and sizes: it holds every decimal that Binance (8), Kraken (10 + 8) and Coinbase (8) can send.
DECIMAL = "decimal(38,18)"


@dataclass(frozen=True)
class Column:
    """A column: name, Spark SQL type, description with unit, nullability."""

    name: str
    type: str
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A Delta table. `path` is relative to the lake's root; `grain` says what one row stands for.

    `key` and `partition_by` name columns; the values of `key` are unique over the whole table.
    """

    layer: Layer
    name: str
    grain: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def path(self) -> str:
        return f"{self.layer}/{self.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)
