"""Verdicts in Dagster's real UI beside a running stream: a person materializes a table, and a check fails for a moment.

Real parts: code server, daemon, webserver, Kafka, the simulated exchange, Spark, Chromium.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dagster import AssetKey, AssetRecordsFilter
from playwright.sync_api import Page

from assets.checks import checks_of
from lakehouse.replay.settle import dismiss
from lakehouse.settings import Settings
from tests.support import ui
from tests.support.dagster_stack import PATIENCE, DagsterStack, materialize_by_hand, simulated_stack, wait_for
from tests.support.messages import send

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.lakehouse,
    pytest.mark.spark,
    pytest.mark.kafka,
    pytest.mark.timeout(900),
    pytest.mark.skipif(ui.chromium() is None, reason="no Chromium here"),
]

TRADES, QUARANTINE = AssetKey(["silver", "trades"]), AssetKey(["silver", "quarantine"])


@pytest.fixture
def stack(kafka_settings: Settings) -> Iterator[DagsterStack]:
    with simulated_stack(kafka_settings, check_seconds=5.0, report_seconds=20.0) as running:
        yield running


def shown(stack: DagsterStack, key: AssetKey) -> dict[str, str | None]:
    """Check → its status on the Checks tab of an asset, as the UI asks for it; None is "Not evaluated"."""
    answer = stack.graphql(
        """query($key: AssetKeyInput!) {assetNodeOrError(assetKey: $key) {... on AssetNode {assetChecksOrError {
            ... on AssetChecks {checks {name executionForLatestMaterialization {status}}}}}}}""",
        key={"path": key.path},
    )
    checks = answer["assetNodeOrError"]["assetChecksOrError"]["checks"]
    return {check["name"]: (check["executionForLatestMaterialization"] or {}).get("status") for check in checks}


def all_passed(stack: DagsterStack) -> bool:
    paths = {check.table_path for check in checks_of(stack.settings, ("bronze", "silver", "gold"))}
    return all(set(shown(stack, AssetKey(path.split("/"))).values()) == {"SUCCEEDED"} for path in paths)


def reported(stack: DagsterStack, run_id: str) -> int:
    """The newest storage id of a materialization of silver/trades by a run, 0 for none."""
    records = stack.instance.fetch_materializations(AssetRecordsFilter(TRADES), limit=50).records
    return next((record.storage_id for record in records if record.run_id == run_id), 0)


def await_report(stack: DagsterStack, stream: str) -> None:
    before = reported(stack, stream)
    wait_for("a report of the stream", lambda: reported(stack, stream) > before, PATIENCE)


def await_verdict(page: Page, path: str, check: str, verdict: str) -> None:
    """A page may be opened in the moment between a materialization and its verdicts."""
    what = f"{verdict} of {check} on the page"
    wait_for(what, lambda: ui.check_verdict(page, path, check) == verdict, 60)


def test_verdicts_are_true_and_kept_beside_a_stream(stack: DagsterStack) -> None:
    settings, check = stack.settings, "quarantine_settled"
    stream = stack.started("stream", PATIENCE)
    with ui.page(f"http://127.0.0.1:{settings.dagster_port}") as page:
        # 1. The stream has reported; a person materializes; the stream reports twice more.
        wait_for("verdicts", lambda: all_passed(stack), PATIENCE)
        materialize_by_hand(stack, page, "silver/trades")
        for _ in range(2):
            await_report(stack, stream)
            wait_for("every verdict after the stream's report", lambda: all_passed(stack), 60)
        for name in shown(stack, TRADES):
            await_verdict(page, "silver/trades", name, "Passed")

        # 2. A check fails for a moment, and the history has both.
        send(settings, settings.topic_trades, [b"junk"])
        wait_for("a failed check", lambda: shown(stack, QUARANTINE)[check] == "FAILED", PATIENCE)
        await_verdict(page, "silver/quarantine", check, "Failed")
        assert dismiss(settings, "not_json").messages == 1
        wait_for("a passed check", lambda: shown(stack, QUARANTINE)[check] == "SUCCEEDED", PATIENCE)
        await_verdict(page, "silver/quarantine", check, "Passed")
        history = ui.check_history(page, "silver/quarantine", check)
        assert history[0] == "Passed"
        assert "Failed" in history
        assert "Passed" in history[history.index("Failed") :]  # before it, too
        assert set(history) == {"Passed", "Failed"}  # none skipped
    assert stack.started("stream", PATIENCE) == stream  # one run all the while
