"""Dagster's UI in a real browser: Debian's Chromium, driven by Playwright. No test module.

`python -m tests.support.ui http://127.0.0.1:3000 docs/images/lineage.png` takes the README's picture of a running demo.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

#: Milliseconds until the UI must show what it has been asked for, on a busy machine.
PATIENCE = 60_000

GROUPS = ("kafka", "bronze", "silver", "gold")

#: Chromium asks nobody outside, and runs as root in a container.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """The path of the machine's Chromium or Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def page(base: str, width: int = 1600, height: int = 1000) -> Iterator[Page]:
    """Open a page of the UI at `base`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        try:
            opened = browser.new_page(viewport={"width": width, "height": height}, base_url=base)
            opened.set_default_timeout(PATIENCE)
            expect.set_options(timeout=PATIENCE)
            yield opened
        finally:
            browser.close()


def open_lineage(shown: Page, groups: tuple[str, ...] = GROUPS) -> None:
    """Open the global lineage graph with the assets of these groups unfolded."""
    unfolded = "%2C".join(f"global%40global%3A{group}" for group in groups)
    shown.goto(f"/asset-groups?expanded={unfolded}")
    expect(shown.locator("svg").get_by_text("bars_5m", exact=True).first).to_be_visible()


def materialize(shown: Page, path: str) -> None:
    """Press Materialize on the page of an asset whose query writes other tables too, and confirm those."""
    shown.goto(f"/assets/{path}")
    shown.locator("button").filter(has_text="Materialize").first.click()
    shown.get_by_role("button", name="Confirm").click()
    expect(shown.get_by_text("Launched run").first).to_be_visible()


def materialize_days(shown: Page, path: str, first: str, last: str) -> None:
    """Press Materialize on the page of an asset that is partitioned by day, choose a range, and launch it."""
    shown.goto(f"/assets/{path}")
    shown.locator("button").filter(has_text="Materialize").first.click()
    shown.get_by_role("button", name="Confirm").click()  # one query writes all tables of Gold
    days = shown.get_by_role("dialog").get_by_role("textbox")  # its placeholder changes with what is chosen
    chosen = f"[{first}...{last}]"
    days.fill(chosen)
    days.press("Enter")
    expect(days).to_have_value(chosen)
    shown.get_by_role("button", name="Launch backfill").click()
    expect(shown.get_by_text("Created backfill").first).to_be_visible()


def check_verdict(shown: Page, path: str, check: str) -> str:
    """The verdict of a check as its page shows it, such as `Passed`."""
    shown.goto(f"/assets/{path}?view=checks&checkDetail={check}")
    verdict = shown.get_by_text("Evaluation result").locator("xpath=following::*[1]")
    expect(verdict).not_to_be_empty()
    return verdict.inner_text().strip()


def check_history(shown: Page, path: str, check: str) -> list[str]:
    """The results in the execution history of a check, such as `Passed`, the newest first; one page of them at most."""
    shown.goto(f"/assets/{path}?view=checks&checkDetail={check}")
    shown.get_by_role("tab", name="Execution history").click()
    results = shown.locator("tbody tr > td:first-child")
    expect(results.first).not_to_be_empty()
    return [result.strip() for result in results.all_inner_texts()]


def main() -> None:
    base, target = sys.argv[1], Path(sys.argv[2])
    with page(base, width=2400, height=1900) as shown:
        open_lineage(shown)
        shown.get_by_text("Hide navigation").click()
        shown.wait_for_timeout(6_000)  # the graph settles its layout and asks for the newest verdicts
        shown.screenshot(path=target)


if __name__ == "__main__":
    main()
