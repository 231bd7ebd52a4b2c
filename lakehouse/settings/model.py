"""The one settings class. Every value can be set by an environment variable `LAKEHOUSE_<NAME>`.

Settings alone connect real parts: bootstrap servers (Kafka or Redpanda), a Spark master, a lake URI. If nothing is set,
everything lives under `home`, a folder in the working directory.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lakehouse.errors import BrokerUnavailableError
from lakehouse.market.symbols import canonical_symbol
from lakehouse.market.venues import VENUES
from lakehouse.settings import values

#: Default of the setting `symbols`: pairs that all three venues list, so that bars can be compared across them.
DEFAULT_SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")

#: Sizes of bars that there can be; `lakehouse.tables.BAR_MINUTES` has their lengths.
BAR_SIZES = ("1m", "5m", "15m", "1h", "1d")
#: Sizes of bars that every lakehouse makes: longer bars, indicators, moves and spreads are computed from them.
ALWAYS_BARS = ("1m", "5m")

#: Environment variables with the prefix LAKEHOUSE_ that are no settings: single modules read them.
OTHER_VARIABLES = ("LAKEHOUSE_JAVA_HOME", "LAKEHOUSE_JARS", "LAKEHOUSE_MAVEN_URL", "LAKEHOUSE_CONTROL_ROOM")

CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Settings of one lakehouse. Build it with `load_settings`, which turns bad values into one clear line."""

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", extra="ignore", frozen=True)

    home: Path = Field(
        Path(".lakehouse/live"), description="Folder of everything local: lake, checkpoints, broker, Dagster."
    )
    lake_uri: str | None = Field(
        None, description="Root of the Delta tables; a path or an object-store URI. Default: home/lake."
    )
    checkpoint_uri: str | None = Field(None, description="Root of the streams' checkpoints. Default: home/checkpoints.")

    bootstrap_servers: str | None = Field(
        None, description="Kafka bootstrap servers. Unset: the embedded broker of `home`."
    )
    topic_trades: str = "crypto.trades"
    topic_rejected: str = "crypto.trades.rejected"
    topic_feed_events: str = "crypto.feed_events"
    topic_partitions: int = Field(
        6, ge=1, le=1024, description="Partitions that crypto.trades is created with; see `topics --partitions`."
    )
    broker_port: int | None = Field(None, description="Port of the embedded broker. Unset: a free one, kept in `home`.")
    broker_memory: str = Field("512m", pattern=r"^[1-9][0-9]*[mMgG]$", description="Heap of the embedded broker's JVM.")

    venues: CommaSeparated = VENUES
    symbols: CommaSeparated = Field(
        DEFAULT_SYMBOLS,
        description="BASE/QUOTE as the venues list it: AAPLx/USD. In small letters for capitals: btc/usdt.",
    )
    simulator_url: str | None = Field(
        None, description="http://127.0.0.1:PORT of the simulator, in place of live venues."
    )

    spark_master: str = "local[2]"
    spark_driver_memory: str = Field("1g", description="Heap of Spark's driver in Java's words; 480m at least.")
    trigger: str = Field(
        "3 seconds", description="Interval of Bronze's batches, which Silver and Gold follow, or `available-now`."
    )
    starting_offsets: str = Field("earliest", description="Kafka offsets of a stream without a checkpoint.")
    max_offsets_per_trigger: int = Field(500_000, ge=1, description="Kafka messages one Bronze batch takes at most.")
    future_tolerance_seconds: int = Field(
        60, ge=0, description="Event times this far past receive time are quarantined."
    )

    bar_sizes: CommaSeparated = Field(
        ALWAYS_BARS, description="Sizes of the bars in Gold: 1m and 5m, which are always made, 15m, 1h, 1d."
    )
    final_after_seconds: float = Field(
        30.0,
        ge=0,
        description="Seconds after its end at which a bar is final, if everything received by then has been read.",
    )
    move_threshold: Decimal = Field(
        Decimal("0.02"), gt=0, description="Moves from open to close of a minute beyond this part go to gold/moves."
    )
    first_day: dt.date = Field(
        dt.date(2026, 1, 1), description="First day that Dagster offers to rebuild Gold for; days are UTC."
    )
    alert_webhook_url: str | None = Field(
        None, description="http(s) URL that gets a POST of JSON for each new move. Unset: moves are only logged."
    )

    dagster_host: str = Field(
        "127.0.0.1", description="Address that Dagster's UI listens on; in a container 0.0.0.0, to be published."
    )
    dagster_port: int = Field(3000, ge=1, le=65535)
    serve_host: str = Field(
        "127.0.0.1", description="Address that the HTTP API listens on; beyond loopback with a key."
    )
    serve_port: int = Field(8000, ge=1, le=65535, description="Port of the HTTP API.")
    api_key: SecretStr | None = Field(
        None, description="Key that the HTTP API asks for. Unset: none, on loopback only."
    )
    postgres_url: SecretStr | None = Field(
        None, description="postgresql://USER:PASSWORD@HOST:PORT/DATABASE of the sink of bars. Unset: no sink."
    )
    redis_url: SecretStr | None = Field(
        None, description="redis://USER:PASSWORD@HOST:PORT/DATABASE of the sink of prices and bars. Unset: no sink."
    )
    redis_bars: int = Field(500, ge=1, description="Newest bars of each venue, symbol and size that Redis holds.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus port of ingest; 0 takes a free one.")
    report_seconds: float = Field(
        300.0, gt=0, description="How often a live run reports materializations, a stream with all their verdicts."
    )
    check_seconds: float = Field(
        60.0, gt=0, description="How often a live stream evaluates its checks; a changed verdict is reported at once."
    )
    heartbeat_seconds: float = Field(5.0, gt=0)
    heartbeat_timeout_seconds: float = Field(
        60.0, gt=0, description="A run whose heartbeat is older is taken for dead."
    )
    supervisor_seconds: int = Field(10, ge=5, description="Interval of the supervisor sensors; Dagster's floor is 5 s.")
    backoff_cap_seconds: float = Field(
        300.0, gt=0, description="Longest wait of a supervisor before it launches a failed run again."
    )
    repair_after_seconds: float = Field(
        120.0,
        ge=0,
        description="Gaps open for so long are repaired by the job `repair`; ingest repairs its own before.",
    )
    split_ingest: bool = Field(False, description="One ingest run per venue instead of one for all.")
    split_streams: bool = Field(False, description="One stream run, and Spark application, per layer instead of one.")

    @field_validator("venues", "symbols", "bar_sizes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("venues")
    @classmethod
    def _known_venues(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for venue in value:
            if venue not in VENUES:
                raise ValueError(f"unknown venue {venue!r}; expected one of {', '.join(VENUES)}")
        return value

    @field_validator("trigger")
    @classmethod
    def _known_trigger(cls, value: str) -> str:
        return values.trigger_of(value)

    @field_validator("spark_driver_memory")
    @classmethod
    def _enough_memory(cls, value: str) -> str:
        return values.heap_of(value)

    @field_validator("api_key")
    @classmethod
    def _long_key(cls, value: SecretStr | None) -> SecretStr | None:
        return values.key_of(value)

    @field_validator("bar_sizes")
    @classmethod
    def _known_sizes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for size in value:
            if size not in BAR_SIZES:
                raise ValueError(f"unknown bar size {size!r}; expected some of {', '.join(BAR_SIZES)}")
        return tuple(size for size in BAR_SIZES if size in value or size in ALWAYS_BARS)

    @field_validator("symbols")
    @classmethod
    def _symbol_form(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return each_once(value)

    @cached_property
    def lake(self) -> str:
        """Root of the Delta tables, absolute if it is a local path."""
        return _absolute(self.lake_uri) if self.lake_uri else str((self.home / "lake").absolute())

    @cached_property
    def checkpoints(self) -> str:
        """Root of the streams' checkpoints, absolute if it is a local path."""
        return _absolute(self.checkpoint_uri) if self.checkpoint_uri else str((self.home / "checkpoints").absolute())

    @property
    def broker_home(self) -> Path:
        """Folder of the embedded broker, absolute: its data, and the file `endpoint` with its host:port."""
        return self.home.absolute() / "broker"

    @property
    def dagster_home(self) -> Path:
        """Folder that is this lakehouse's DAGSTER_HOME, absolute."""
        return self.home.absolute() / "dagster"

    @property
    def topics(self) -> tuple[str, str, str]:
        """Names of the three Kafka topics, in this order: trades, rejected messages, feed events."""
        return (self.topic_trades, self.topic_rejected, self.topic_feed_events)

    def bootstrap(self) -> str:
        """Kafka's bootstrap servers as `host:port,…`: those of the settings, else the embedded broker's.

        Raises BrokerUnavailableError if none are set and no embedded broker runs in `home`. No broker is asked: the
        address that a killed broker left there is returned, too.
        """
        if self.bootstrap_servers:
            return self.bootstrap_servers
        endpoint = self.broker_home / "endpoint"
        try:
            return endpoint.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            if self.broker_home.is_dir():
                raise BrokerUnavailableError(
                    f"the embedded broker of {self.home} is stopped, or has not answered yet",
                    "a running one",
                    "start the lakehouse, or `lakehouse broker`, again",
                ) from None
            raise BrokerUnavailableError(
                f"no Kafka bootstrap servers are set and no embedded broker has run in {self.home}",
                "LAKEHOUSE_BOOTSTRAP_SERVERS=host:port or a running `lakehouse broker`",
            ) from None

    @property
    def api_url(self) -> str:
        """URL at which this machine reaches the HTTP API."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.serve_host, self.serve_host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.serve_port}"

    @property
    def is_simulated(self) -> bool:
        """True if this lake's trades come from the simulated exchange."""
        return self.simulator_url is not None or (self.home / "simulator").exists()

    def for_executors(self) -> Settings:
        """Return these settings for a process with another working folder: absolute paths, and no secrets."""
        secrets = {name: None for name in type(self).model_fields if isinstance(getattr(self, name), SecretStr)}
        paths = {"home": self.home.absolute(), "lake_uri": self.lake, "checkpoint_uri": self.checkpoints}
        return self.model_copy(update={**secrets, **paths})

    def environment(self) -> dict[str, str]:
        """Return these settings as LAKEHOUSE_… variables, for the processes that we start; None is left out.

        Secrets are left out too, because the variables are saved and printed: a child inherits those of our own
        environment.
        """
        variables: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None or isinstance(value, SecretStr):
                continue
            if isinstance(value, tuple):
                value = ",".join(value)
            if isinstance(value, Path):
                value = value.absolute()
            variables[f"LAKEHOUSE_{name.upper()}"] = str(value)
        return variables


def each_once(names: Iterable[str]) -> tuple[str, ...]:
    """Return the canonical symbols of names, each once, in order. Raises ValueError if one is not a symbol."""
    return tuple(dict.fromkeys(canonical_symbol(name) for name in names))


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())
