"""Messages that a person has looked at leave the open ones, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake

from lakehouse.audit.run import audit
from lakehouse.cli.replay import dismissal_line
from lakehouse.errors import LakehouseError, LeaseHeldError, SettingError
from lakehouse.lake.lease import Lease
from lakehouse.lake.quarantine import open_messages, open_quarantine
from lakehouse.lake.table_io import append_rows, open_table, sql, table_uri
from lakehouse.quality.model import Look
from lakehouse.quality.silver import quarantine_settled
from lakehouse.replay import settle as module
from lakehouse.replay.settle import Dismissal, dismiss, somebody
from lakehouse.settings import Settings
from lakehouse.tables import OPS_REPLAYS, SILVER_QUARANTINE
from tests.replay.test_replay import quarantined, settle
from tests.status.test_snapshot import lakehouse
from tests.support.audit_lake import AuditLake
from tests.support.audit_messages import messages, trade
from tests.support.rows import empty_lake


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    """Three conflicts, of two venues, and a message that nobody can read."""
    settings = empty_lake(tmp_path / ".lakehouse" / "demo")
    rows = [
        quarantined(offset, "conflict", venue=venue) for offset, venue in enumerate(("kraken", "kraken", "binance"))
    ]
    append_rows(settings, SILVER_QUARANTINE, [*rows, quarantined(3, "not_json")])
    return settings


def replays(settings: Settings) -> list[dict[str, Any]]:
    query = "SELECT kafka_offset, rule, outcome, trades, reason, dismissed_by FROM r ORDER BY kafka_offset"
    found: list[dict[str, Any]] = sql(settings, query, r=OPS_REPLAYS).to_pylist()
    return found


def test_dismissed_messages_are_open_no_more_and_stay_in_quarantine(lake: Settings) -> None:
    version = open_table(lake, SILVER_QUARANTINE).version()

    assert dismiss(lake, "conflict", "kraken", "  a faulty\n gateway ") == Dismissal("conflict", "kraken", 2, dry=False)

    said = {"rule": "conflict", "outcome": "dismissed", "trades": 0, "reason": "a faulty gateway"}
    assert replays(lake) == [{"kafka_offset": n, **said, "dismissed_by": somebody()} for n in (0, 1)]
    assert open_quarantine(lake) == {"conflict": 1, "not_json": 1}
    assert dismiss(lake, "conflict").messages == 1
    assert replays(lake)[2]["reason"] is None
    assert not quarantine_settled(lake, Look.ALL).passed
    assert dismiss(lake, "not_json", reason="").messages == 1
    assert quarantine_settled(lake, Look.ALL).passed
    assert open_table(lake, SILVER_QUARANTINE).version() == version

    # A message that fails the rule later is for somebody to look at again.
    append_rows(lake, SILVER_QUARANTINE, [quarantined(9, "conflict")])
    assert open_quarantine(lake) == {"conflict": 1}


def test_for_the_audit_they_are_quarantined_as_before(tmp_path: Path) -> None:
    lake = AuditLake.empty(tmp_path)
    lake.batch(messages(trade(1), trade(2), trade(2, price="1.0"), b"junk"))
    before = audit(lake.settings)
    dismiss(lake.settings, "conflict")
    after = audit(lake.settings)
    assert (before.faults, after.faults) == ([], [])
    assert before.total("quarantined") == after.total("quarantined") == 2
    assert {one.rule: (one.messages, one.open) for one in after.quarantine} == {"conflict": (1, 0), "not_json": (1, 1)}


def test_with_nothing_open_nothing_is_written(lake: Settings) -> None:
    settle(lake, 3)
    version = open_table(lake, OPS_REPLAYS).version()
    assert dismiss(lake, "not_json") == Dismissal("not_json", None, 0, dry=False)
    assert dismiss(lake, "conflict", "coinbase").messages == 0
    assert dismiss(lake, "conflict", dry_run=True) == Dismissal("conflict", None, 3, dry=True)
    assert open_table(lake, OPS_REPLAYS).version() == version


def test_bad_input_is_one_line(lake: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"failed the rule 'conflicts'; expected one of conflict, not_json$"):
        dismiss(lake, "conflicts")
    with pytest.raises(SettingError, match=r"unknown venue 'mtgox'; expected one of binance, kraken, coinbase$"):
        dismiss(lake, "conflict", "mtgox")
    with pytest.raises(SettingError, match="nothing has ever been quarantined here"):
        dismiss(empty_lake(tmp_path / "new"), "conflict")


def test_beside_a_replay_it_gives_way(lake: Settings) -> None:
    with Lease(lake, ("replay",), "somebody"), pytest.raises(LeaseHeldError, match="somebody"):
        dismiss(lake, "conflict")
    assert open_quarantine(lake)["conflict"] == 3


def test_a_lake_of_an_older_release_gets_the_columns(lake: Settings) -> None:
    new = ("reason", "dismissed_by")
    settle(lake, 3)
    old = DeltaTable(table_uri(lake, OPS_REPLAYS)).to_pyarrow_table().drop_columns(list(new))
    write_deltalake(table_uri(lake, OPS_REPLAYS), old, mode="overwrite", schema_mode="overwrite")
    assert open_quarantine(lake) == {"conflict": 3}
    dismiss(lake, "conflict", reason="why not")
    assert [row["reason"] for row in replays(lake)] == ["why not"] * 3 + [None]
    assert open_quarantine(lake) == {}


def test_what_was_written_before_a_crash_stays_dismissed(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(settings: Settings, rule: str, venue: str | None) -> Any:
        (rows,) = open_messages(settings, rule, venue=venue)
        yield rows.slice(0, 2)
        raise LakehouseError("the store went away")

    monkeypatch.setattr(module, "open_messages", cut)
    with pytest.raises(LakehouseError, match="went away"):
        dismiss(lake, "conflict")
    assert open_quarantine(lake) == {"conflict": 1, "not_json": 1}


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert somebody().partition("@")[0].isdigit()


def test_the_lines_for_people() -> None:
    assert dismissal_line(Dismissal("conflict", None, 1200, dry=False)) == "conflict: 1,200 dismissed"
    assert dismissal_line(Dismissal("conflict", "kraken", 2, dry=True)) == "conflict of kraken: 2 would be dismissed"
    assert dismissal_line(Dismissal("conflict", None, 0, dry=True)) == "conflict: nothing is open in quarantine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dismiss",), "--dismiss without a rule; expected --rule RULE"),
        (("--dismiss", "--rule", "x", "--limit", "3"), "--limit with --dismiss; expected"),
        (("--rule", "conflict", "--venue", "kraken"), "--venue without --dismiss; expected"),
        (("--reason", "x"), "--reason without --dismiss; expected"),
        (
            ("--dismiss", "--rule", "nonsense"),
            "no quarantined message has failed the rule 'nonsense'; expected one of ",
        ),
    ],
)
def test_the_command_refuses_in_one_line(lake: Settings, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = lakehouse(tmp_path, "replay", *arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith(f"lakehouse: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_the_command_dismisses_and_says_when_there_is_nothing(lake: Settings, tmp_path: Path) -> None:
    command = ("replay", "--dismiss", "--rule", "conflict", "--venue", "binance", "--reason", "known")
    done = lakehouse(tmp_path, *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "conflict of binance: 1 dismissed\n", "")
    assert [row["reason"] for row in replays(lake)] == ["known"]
    done = lakehouse(tmp_path, *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "conflict of binance: nothing is open in quarantine\n"
