"""A short form of `stream_storm`: kills of ingest and of the API, faults, cuts; then every client has the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import plan, quiet, stream_storm

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.kafka, pytest.mark.lakehouse, pytest.mark.timeout(900)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a storm of seconds, as in test_short."""
    monkeypatch.setattr(plan, "LONGEST_GRACE", 5.0)
    monkeypatch.setattr(quiet, "TRADE_SECONDS", 4.0)
    monkeypatch.setattr(quiet, "STABLE_SECONDS", 5.0)
    monkeypatch.setattr(quiet, "LOOK_SECONDS", 1.0)


def test_every_client_has_the_record(impatient: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = stream_storm.run(tmp_path / "home", 1, 30, 60.0, 150.0, ("ingest", "serve"), print, kills=5)
    with capsys.disabled():
        print(f"\n{figures}")
    assert figures.failures == []
    assert set(figures.kills) == {"ingest", "serve"}
    assert figures.delivered > 1_000
    assert figures.repaired > 0
    assert (figures.missing, figures.repeated, figures.disordered) == (0, 0, 0)
