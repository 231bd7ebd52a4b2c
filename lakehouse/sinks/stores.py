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
    """A kind of store. `field` is the setting with its URL, `form` how such a URL looks; `job` is its managed run."""

    name: str
    title: str
    field: str
    form: str
    make: Callable[[Settings, str], Sink]

    @property
    def job(self) -> str:
        """Name of the managed run that keeps this store, and of its job."""
        return f"sink_{self.name}"

    @property
    def variable(self) -> str:
        """Environment variable with its URL."""
        return f"LAKEHOUSE_{self.field.upper()}"

    def is_wanted(self, settings: Settings) -> bool:
        """True if the settings have its URL."""
        return bool(self._url(settings))

    def open(self, settings: Settings) -> Sink:
        """Return its sink, which connects when it is used. Raises SettingError without a URL, or with a wrong one."""
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
