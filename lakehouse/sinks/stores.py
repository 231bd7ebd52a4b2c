"""The stores that can follow Gold: their names, jobs and settings, and how to open a sink for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lakehouse.errors import SettingError
from lakehouse.settings import Settings
from lakehouse.sinks.postgres import PostgresSink
from lakehouse.sinks.redis_store import RedisSink
from lakehouse.sinks.run import Sink


@dataclass(frozen=True)
class Store:
    """A kind of store. `field` is the setting with its URL, `form` an example of such a URL; `make` makes its sink."""

    name: str
    title: str
    field: str
    form: str
    make: Callable[[Settings, str], Sink]

    @property
    def job(self) -> str:
        """Name of the managed run that keeps this store up to date, and of its job."""
        return f"sink_{self.name}"

    @property
    def variable(self) -> str:
        """Environment variable with the store's URL."""
        return f"LAKEHOUSE_{self.field.upper()}"

    def is_wanted(self, settings: Settings) -> bool:
        """Return True if the settings have the store's URL."""
        return bool(self._url(settings))

    def open(self, settings: Settings) -> Sink:
        """Return the store's sink, which connects at its first use. Raises SettingError for a missing or wrong URL."""
        url = self._url(settings)
        if not url:
            raise SettingError(f"no {self.variable}", f"the {self.title} of the sink", f"set {self.form}")
        return self.make(settings, url)

    def _url(self, settings: Settings) -> str:
        found = getattr(settings, self.field)
        return "" if found is None else str(found.get_secret_value())


POSTGRES = Store(
    "postgres", "PostgreSQL", "postgres_url", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE", PostgresSink
)
REDIS = Store("redis", "Redis", "redis_url", "redis://USER:PASSWORD@HOST:PORT/DATABASE", RedisSink)

STORES = (POSTGRES, REDIS)
