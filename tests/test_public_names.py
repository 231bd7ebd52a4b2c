"""Names that a user types or reads, or that stored data holds: a change of one fails here.

`tests/golden/public_names.json` is the record. After a deprecation by the policy of CHANGELOG.md, or for a new name:

    RECORD_PUBLIC_NAMES=1 .venv/bin/python -m pytest tests/test_public_names.py
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import httpx
import msgspec
import typer.main
from dagster import AssetsDefinition, Definitions

import definitions
from jobs import managed_runs
from lakehouse import errors
from lakehouse.audit.report import Report
from lakehouse.broker.topics import TOPIC_CONFIG
from lakehouse.cli import build_app
from lakehouse.client import Lake, Scan
from lakehouse.continuity.id_states import State
from lakehouse.exchanges.model import FeedEvent, Rejected, Side, Source, Trade
from lakehouse.exchanges.parse_errors import Reason
from lakehouse.ingest.metrics import Counters, MetricsServer
from lakehouse.lake.table_io import PROPERTIES, ensure_tables, open_table, table_uri
from lakehouse.replay.judge import Outcome
from lakehouse.serving import wish
from lakehouse.settings import Settings
from lakehouse.simulator.faults.kinds import KINDS
from lakehouse.status import supervision
from lakehouse.streams.batch import BatchContext, BatchResult
from lakehouse.streams.dedup import CONFLICT
from lakehouse.streams.gold import app_id as gold_app_id
from lakehouse.tables import LAYERS, OPS_BATCHES, SILVER_TRADES, TABLES, FeedEventKind
from lakehouse.transforms.message_rules import EVENT_RULES, TRADE_RULES
from tests.conftest import SettingsFactory
from tests.support.api_server import serving

RECORD = Path(__file__).with_name("golden") / "public_names.json"

Names = dict[str, list[str]]


def test_public_names_are_those_of_the_record(settings_factory: SettingsFactory) -> None:
    found = {kind: sorted(set(names)) for kind, names in sorted(_found(settings_factory()).items())}
    if os.environ.get("RECORD_PUBLIC_NAMES"):
        RECORD.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    recorded: Names = json.loads(RECORD.read_text(encoding="utf-8"))
    gone = [f"{kind}: {name}" for kind, names in recorded.items() for name in names if name not in found.get(kind, [])]
    new = [f"{kind}: {name}" for kind, names in found.items() for name in names if name not in recorded.get(kind, [])]
    assert not gone, f"public names are gone; deprecate them by the policy of CHANGELOG.md, then record: {gone}"
    assert not new, f"public names are new; describe them in CHANGELOG.md, then record: {new}"
    assert all(found.values())


def _found(settings: Settings) -> dict[str, Iterable[str]]:
    ensure_tables(settings)
    messages = {"Trade": Trade, "Rejected": Rejected, "FeedEvent": FeedEvent}
    return {
        "api paths and parameters": _paths(settings),
        "audit report": _report_keys(),
        "client": _client(),
        "commands and options": _commands(typer.main.get_command(build_app()), "lakehouse"),
        "dagster asset checks": (f"{check.asset_key.to_user_string()} {check.name}" for check in _checks()),
        "dagster asset groups": (group for asset in _assets() for group in asset.group_names_by_key.values()),
        "dagster assets": (key.to_user_string() for asset in _assets() for key in asset.keys),
        "dagster jobs": (job.name for job in _definitions().jobs or ()),
        "dagster sensors": (sensor.name for sensor in _definitions().sensors or ()),
        "dagster tags": (*_constants(managed_runs, "_TAG"), *_constants(supervision, "_TAG")),
        "delta application ids": _application_ids(settings),
        "delta table properties": (f"{name} = {value}" for name, value in PROPERTIES.items()),
        "exit codes": (f"{error.__name__} {error.exit_code}" for error in _errors()),
        "faults of the simulator": KINDS,
        "feed events": get_args(FeedEventKind),
        "kafka messages": (f"{name}.{one}" for name, kind in messages.items() for one in kind.__struct_fields__),
        "kafka topic settings": TOPIC_CONFIG,
        "kafka topics": settings.topics,
        "metrics": _metrics(),
        "ops/batches queries": LAYERS,
        "ops/replays outcomes": get_args(Outcome),
        "quarantine rules": (*(rule.name for rule in (*TRADE_RULES, *EVENT_RULES)), CONFLICT),
        "rejection reasons": get_args(Reason),
        "settings": (f"LAKEHOUSE_{name.upper()}" for name in Settings.model_fields),
        "silver/continuity states": get_args(State),
        "spark queries and their checkpoint folders": LAYERS,
        "tables": _tables(),
        "trade sources and sides": (*get_args(Source), *get_args(Side)),
    }


def _definitions() -> Definitions:
    return definitions.defs


def _assets() -> Iterator[AssetsDefinition]:
    for asset in definitions.defs.assets or ():
        if isinstance(asset, AssetsDefinition):
            yield asset


def _checks() -> Iterator[Any]:
    for checks in definitions.defs.asset_checks or ():
        yield from checks.check_specs


def _report_keys() -> Iterator[str]:
    """Every key in the JSON of `lakehouse audit --json`, at whatever depth."""
    for part in msgspec.json.schema(Report)["$defs"].values():
        yield from part.get("properties", ())


def _commands(command: Any, path: str) -> Iterator[str]:
    yield path
    for option in command.params:
        yield from (f"{path} {name}" for name in option.opts)
    for name, one in getattr(command, "commands", {}).items():
        yield from _commands(one, f"{path} {name}")


def _constants(module: ModuleType, ending: str) -> Iterator[str]:
    return (value for name, value in vars(module).items() if name.endswith(ending) and isinstance(value, str))


def _errors() -> Iterator[type[errors.LakehouseError]]:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.LakehouseError):
            yield kind


def _application_ids(settings: Settings) -> Iterator[str]:
    """Ids by which Delta knows what it has taken; names of this one lake stand in capitals."""
    context = BatchContext(settings, "QUERY", None, "GENERATION", None, "run", lambda _: None)  # type: ignore[arg-type]
    yield context.app_id(SILVER_TRADES)
    yield gold_app_id(settings).replace(str(open_table(settings, SILVER_TRADES).metadata().id), "ID_OF_SILVER_TRADES")
    context.run(0, lambda: BatchResult.of_partitions({}, {}, {}, {}))
    log = Path(table_uri(settings, OPS_BATCHES)) / "_delta_log"
    for commit in sorted(log.glob("*.json")):
        for line in commit.read_text(encoding="utf-8").splitlines():
            if transaction := json.loads(line).get("txn"):
                yield transaction["appId"]


def _metrics() -> Iterator[str]:
    """Names and types, as Prometheus reads them."""
    counters = Counters()
    counters.symbol("binance", "BTC/USDT")
    counters.venue("binance")
    server = MetricsServer(counters, 0)
    server.start()
    try:
        text = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
    finally:
        server.stop()
    return (line.removeprefix("# TYPE ") for line in text.splitlines() if line.startswith("# TYPE "))


def _paths(settings: Settings) -> Iterator[str]:
    """Paths of the HTTP API with their parameters, and the parameters of the WebSocket."""
    with serving(settings) as http:
        paths = http.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, about in methods.items():
            yield f"{method.upper()} {path}"
            yield from (f"{method.upper()} {path} {one['name']}" for one in about.get("parameters", ()))
    yield from (f"/v1/stream {name}" for name in wish.PARAMETERS)


def _client() -> Iterator[str]:
    """Public methods of the client with their parameters."""
    for kind in (Lake, Scan):
        for name, method in inspect.getmembers(kind, callable):
            if not name.startswith("_"):
                parameters = [one for one in inspect.signature(method).parameters if one != "self"]
                yield f"{kind.__name__}.{name}({', '.join(parameters)})"


def _tables() -> Iterator[str]:
    for table in TABLES:
        yield f"{table.path} key {','.join(table.key)} partitioned by {','.join(table.partition_by) or 'nothing'}"
        for column in table.columns:
            yield f"{table.path}.{column.name} {column.type}{' null' if column.nullable else ''}"
