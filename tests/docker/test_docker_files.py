"""The files under docker/, without Docker: what a person would only notice on the machine it is deployed to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from dagster._core.instance.config import dagster_instance_config

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("lakehouse", "webserver", "daemon")


def load(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_every_published_port_is_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_processes_are_reaped(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.search(r":v?\d+\.\d+[.\w-]*$", image), f"{image} names no version"
    assert SERVICES[name]["init"] is True


@pytest.mark.parametrize("name", ["redpanda", "postgres", *OURS])
def test_services_with_state_or_runs_get_time_to_stop(name: str) -> None:
    assert SERVICES[name]["stop_grace_period"] == "60s"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_the_health_of_what_it_needs(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        assert wanted == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]


def test_our_image_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"{project['name']}:{project['version']}"}


def test_no_secret_has_a_value() -> None:
    passwords = [
        value
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name
    ]
    assert len(passwords) == 1 + len(OURS)
    assert all(value.startswith("${POSTGRES_PASSWORD:?") for value in passwords)
    assert "\nPOSTGRES_PASSWORD=\n" in (DOCKER / ".env.example").read_text(encoding="utf-8")


def test_kafka_clients_inside_and_outside_are_sent_to_where_they_came_from() -> None:
    options = dict(option.removeprefix("--").partition("=")[::2] for option in SERVICES["redpanda"]["command"])
    advertised = dict(entry.split("://") for entry in options["advertise-kafka-addr"].split(","))
    assert advertised == {"inside": "redpanda:9092", "outside": "127.0.0.1:19092"}
    assert advertised["inside"] == SERVICES["lakehouse"]["environment"]["LAKEHOUSE_BOOTSTRAP_SERVERS"]
    assert f"{advertised['outside']}:19092" in SERVICES["redpanda"]["ports"]


def test_the_workspace_is_the_code_location_of_compose() -> None:
    server = load(DOCKER / "workspace.yaml")["load_from"][0]["grpc_server"]
    entrypoint = SERVICES["lakehouse"]["entrypoint"]
    assert server == {"host": "lakehouse", "port": 4000, "location_name": "lakehouse"}
    assert entrypoint[entrypoint.index("--port") + 1] == "4000"
    assert "lakehouse" in SERVICES["lakehouse"]["command"]


def test_dagster_takes_the_instance_and_it_differs_from_the_demos_in_storage_alone() -> None:
    ours, _ = dagster_instance_config(str(DOCKER))  # validates; connects to nothing
    demo = load(ROOT / "lakehouse" / "local_stack" / "dagster.yaml")
    assert ours["storage"]["postgres"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
    assert {name: ours[name] for name in demo} == demo
    variables = re.findall(r"env: (\w+)", (DOCKER / "dagster.yaml").read_text(encoding="utf-8"))
    assert set(variables) <= set(SERVICES["webserver"]["environment"])


def test_the_image_runs_as_a_user_with_hashed_dependencies_and_bytecode() -> None:
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\w+)$", last_stage, re.MULTILINE) == ["lakehouse"]
    assert "--require-hashes" in DOCKERFILE
    assert "PYTHONDONTWRITEBYTECODE" not in DOCKERFILE
    assert "LAKEHOUSE_JARS=/opt/jars" in last_stage


def test_base_images_are_pinned_and_no_package_host_is_named() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) - stages
    assert bases == {"python:${PYTHON}-slim-bookworm"}
    assert re.findall(r"^ARG (\S+)$", DOCKERFILE, re.MULTILINE) == ["PYTHON=3.11"]
    assert re.findall(r"https?://\S+", DOCKERFILE) == ["http://127.0.0.1:%s/server_info'"]


def test_the_lock_has_what_dagster_on_postgres_needs() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    lacking = [name for name in ("dagster-postgres", "psycopg2-binary") if f"\n{name}==" not in lock]
    assert lacking == [], "compile requirements.lock with `--extra postgres`: the image is installed from it alone"


def test_what_the_image_copies_is_what_the_build_sees() -> None:
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        copied.update(sources)
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    }
    assert all((ROOT / source).exists() for source in copied)
    assert {source for source in copied if source not in allowed and not source.startswith("lakehouse/")} == set()
