"""The API's page in a real browser, and what it asks and says on the way. No test module.

`python -m tests.support.page http://127.0.0.1:8000 docs/images` takes the pictures of a running demo.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Request, expect

from tests.support import ui

PHONE = (390, 844)


@dataclass
class Watched:
    """A page, its console's errors, the URLs that it asked for, and the bytes that came."""

    page: Page
    base: str
    errors: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)

    def note(self, request: Request) -> None:
        self.urls.append(request.url)

    def transferred(self) -> int:
        """Bytes of all answers so far, as they came over the network."""
        sizes = [request.sizes() for request in self.finished]
        return sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes)

    @property
    def elsewhere(self) -> list[str]:
        """URLs of other servers."""
        own = (self.base, self.base.replace("http", "ws", 1))
        return [url for url in self.urls if not url.startswith(own)]

    def open(self, query: str = "") -> None:
        """Open the page, and wait until it has candles."""
        self.page.goto(f"/{query}")
        expect(self.page.locator("#chart[data-bars]:not([data-bars='0'])")).to_be_visible()

    def first_candles(self) -> float:
        """Milliseconds from the navigation to the first candles."""
        self.page.wait_for_timeout(500)
        entries = self.page.evaluate("() => performance.getEntriesByName('first-candles').map((one) => one.startTime)")
        return float(entries[0])

    def count(self, state: str) -> int:
        """How many bars the legend of the strip says to be in a state."""
        return int(self.page.locator(f"#legend [data-state={state}] b").inner_text())

    def bars(self) -> int:
        return int(self.page.locator("#chart").get_attribute("data-bars") or 0)

    def certificate(self) -> dict[str, str]:
        """The certificate that is shown: name → value."""
        panel = self.page.locator("#certificate")
        return dict(zip(panel.locator("dt").all_inner_texts(), panel.locator("dd").all_inner_texts(), strict=True))

    def is_too_wide(self) -> bool:
        """True if the page would have to be scrolled sideways."""
        return bool(self.page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth"))

    def background(self) -> str:
        return str(self.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))


@contextmanager
def watched(base: str, width: int = 1280, height: int = 900, **media: Any) -> Iterator[Watched]:
    """Open a tab for the page at `base`; `media` is what Playwright's `emulate_media` takes."""
    with ui.page(base, width, height) as shown:
        found = Watched(shown, base)
        shown.on("console", lambda one: found.errors.append(one.text) if one.type in ("error", "warning") else None)
        shown.on("pageerror", lambda error: found.errors.append(str(error)))
        shown.on("request", found.note)
        shown.on("websocket", lambda socket: found.urls.append(socket.url))
        shown.on("requestfinished", lambda request: found.finished.append(request))
        if media:
            shown.emulate_media(**media)
        yield found


def main() -> None:
    base, folder = sys.argv[1], Path(sys.argv[2])
    for name, size, theme in (("page.png", (1280, 860), "light"), ("page-phone-dark.png", PHONE, "dark")):
        with watched(base, *size, color_scheme=theme) as shown:
            shown.open()
            expect(shown.page.locator("#connection")).to_have_text("live")
            shown.page.wait_for_timeout(6_000)
            for _ in range(3):
                shown.page.locator("#chart").press("ArrowLeft")
            shown.page.wait_for_timeout(2_000)
            shown.page.screenshot(path=folder / name)


if __name__ == "__main__":
    main()
