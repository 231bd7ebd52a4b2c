"""The page's files: whole, of the right types, from this server alone, without a key, and in the package."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from lakehouse.serving import page_files
from lakehouse.serving.access import KEY_SUBPROTOCOL, KeyCheck, is_same_origin
from lakehouse.settings import load_settings
from tests.serving.conftest import UNLIMITED
from tests.support.api_server import serving
from tests.support.market_lake import MarketLake

KEY = "a-key-of-24-characters-x"
ROOT = Path(__file__).parents[2]
FOLDER = page_files.FOLDER
#: Bytes of the page's files that a browser transfers, the bars apart.
MOST_BYTES = 300_000
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
OWN = sorted(file for file in FOLDER.iterdir() if file.suffix in TYPES)


@pytest.mark.parametrize("file", [*OWN, page_files.CHART_LIBRARY], ids=lambda file: file.name)
def test_a_file_is_sent_as_it_is_and_once(client: httpx.Client, file: Path) -> None:
    path = f"/page/{file.relative_to(FOLDER)}"
    found = client.get(path)
    assert (found.status_code, found.content) == (200, file.read_bytes())
    assert found.headers["content-type"].startswith(TYPES[file.suffix])
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in found.headers["content-security-policy"]
    assert "unsafe" not in found.headers["content-security-policy"]
    again = client.get(path, headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_the_root_is_the_page(client: httpx.Client) -> None:
    assert client.get("/").content == (FOLDER / "index.html").read_bytes()
    assert client.head("/").status_code == 200
    assert client.post("/").status_code == 405


@pytest.mark.parametrize(
    "path",
    ["package.json", ".npmrc", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd", "a%00.js", "none.js", ""],
)
def test_nothing_else_is_sent(client: httpx.Client, path: str) -> None:
    found = client.get(f"/page/{path}")
    assert (found.status_code, found.headers["content-type"]) == (404, "application/problem+json")


def test_a_missing_chart_library_is_told_with_its_remedy(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_files, "FOLDER", tmp_path)
    monkeypatch.setattr(page_files, "CHART_LIBRARY", tmp_path / "vendor" / "lightweight-charts.js")
    assert "run `make install`" in client.get("/page/vendor/lightweight-charts.js").json()["detail"]
    assert client.get("/v1/markets").status_code == 200


def test_the_files_are_small_and_each_is_asked_for() -> None:
    files = [*OWN, page_files.CHART_LIBRARY]
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    assert sum(len(gzip.compress(file.read_bytes(), 1)) for file in files) < MOST_BYTES / 2
    texts = "".join(file.read_text(encoding="utf-8") for file in OWN)
    assert [file.name for file in OWN if file.name != "index.html" and f"/{file.name}" not in texts] == []
    assert [file.name for file in OWN if len(file.read_text(encoding="utf-8").splitlines()) > 300] == []


def test_nothing_is_asked_of_elsewhere() -> None:
    """A link that a person may follow is no request."""
    for file in OWN:
        urls = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<>]*", file.read_text(encoding="utf-8")))
        assert urls <= {"https://www.tradingview.com/", "http://www.w3.org/2000/svg"}, file


def test_versions_are_exact_and_no_registry_is_named() -> None:
    wanted = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    locked = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert all("resolved" not in one and one["integrity"].startswith("sha512-") for name, one in locked.items() if name)
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_the_page_names_the_library_and_its_maker_as_the_license_asks() -> None:
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert "TradingView Lightweight Charts" in text
    assert 'href="https://www.tradingview.com/"' in text
    assert "Apache License" in (FOLDER / "vendor" / "LICENSE.txt").read_text(encoding="utf-8")


def test_the_sizes_of_the_page_are_the_apis(client: httpx.Client) -> None:
    sizes = re.search(r"SIZES = (\[.+\]);", (FOLDER / "pickers.js").read_text(encoding="utf-8"))
    assert sizes
    parameters = client.get("/openapi.json").json()["paths"]["/v1/bars"]["get"]["parameters"]
    known = next(one["schema"]["enum"] for one in parameters if one["name"] == "size")
    assert set(json.loads(sizes[1])) <= {*known}


def test_the_files_need_no_key_and_the_rows_do(market: MarketLake) -> None:
    settings = market.settings.model_copy(update={"api_key": load_settings(api_key=KEY).api_key})
    with serving(settings, UNLIMITED) as client:
        for path in ("/", "/page/main.js", "/page/vendor/lightweight-charts.js"):
            assert client.get(path).status_code == 200
        for path in ("/v1/bars", "/openapi.json", "/page", "/pages/main.js", "/v1/bars?/page/"):
            assert client.get(path).status_code == 401


def test_a_key_in_a_subprotocol_is_the_key() -> None:
    check = KeyCheck(KEY)
    for key in (KEY, KEY[:-1], f"{KEY}x", ""):
        text = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
        sent = {b"sec-websocket-protocol": f"lakehouse, {KEY_SUBPROTOCOL}{text}".encode()}
        assert check.allows(sent) == (key == KEY)
    for text in (f"lakehouse, {KEY}", f"{KEY_SUBPROTOCOL}{KEY}", f"{KEY_SUBPROTOCOL}é", ","):
        assert not check.allows({b"sec-websocket-protocol": text.encode("latin-1")})


@pytest.mark.parametrize(
    ("origin", "host", "is_same"),
    [
        (None, "localhost:8000", True),
        ("http://localhost:8000", "localhost:8000", True),
        ("https://Lake.example", "lake.example", True),
        ("http://evil.example", "localhost:8000", False),
        ("http://localhost:8000.evil.example", "localhost:8000", False),
        ("http://localhost:9000", "localhost:8000", False),
        ("null", "localhost:8000", False),
        ("", "localhost:8000", False),
    ],
)
def test_an_origin(origin: str | None, host: str, is_same: bool) -> None:
    headers = {b"host": host.encode()} | ({} if origin is None else {b"origin": origin.encode()})
    assert is_same_origin(headers) == is_same


@pytest.mark.slow
def test_the_wheel_has_every_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    served = [file for file in FOLDER.rglob("*") if file.suffix in {*TYPES, ".txt"}]
    assert {str(file.relative_to(ROOT)) for file in served} <= {*names}
    assert not [name for name in names if "node_modules" in name]
