"""Folder of one lakehouse: the kind of its data, its lock, its saved settings, and how it is emptied.

Simulated and live data never share a folder: the first start writes its kind, and a start of the other kind refuses.
One stack per folder: an advisory lock that the kernel releases when its process ends, even if it is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from lakehouse.errors import LeaseHeldError, MissingDependencyError, SettingError
from lakehouse.lake.file_lock import lock_file

#: Kind of a folder's data: simulated or from the venues.
Kind = Literal["demo", "live"]

KIND_FILE = "KIND"
SETTINGS_FILE = "settings.json"
LOCK_FILE = "lock"
NOTICE_FILES: dict[Kind, str] = {"demo": "SIMULATED-DATA.txt", "live": "LIVE-DATA.txt"}
NOTICES: dict[Kind, str] = {
    "demo": "Everything in this folder is SIMULATED: prices, sizes and trades come from an exchange on this machine\n"
    "(`lakehouse demo`). Not one of them happened on a market.\n",
    "live": "The trades in this folder were received from the venues themselves (`lakehouse up`).\n",
}
#: Everything that a lakehouse writes into its home; emptying removes these and nothing else.
OWN_ENTRIES = (
    *("lake", "checkpoints", "broker", "dagster", "simulator", "logs", "ingest", "_leases", "leases", "spark", "tmp"),
    *(SETTINGS_FILE, *NOTICE_FILES.values(), KIND_FILE, LOCK_FILE),
)


@contextlib.contextmanager
def home_lock(home: Path) -> Iterator[None]:
    """Hold the lock of a lakehouse's folder, made if missing, while a stack runs in it or it is reset.

    Raises LeaseHeldError if another process holds it, MissingDependencyError if the folder cannot be written.
    """
    home = home.absolute()

    def refusal(holder: str) -> LeaseHeldError:
        return LeaseHeldError(
            f"a lakehouse is already running in {home} (process {holder or 'unknown'})",
            "one at a time per folder",
            "stop it with Ctrl-C or use --home FOLDER",
        )

    try:
        file = lock_file(home / LOCK_FILE, str(os.getpid()), refusal)
    except OSError as error:
        raise MissingDependencyError(
            f"folder {home}: {error.strerror}", "a folder that we may write to", "use --home FOLDER"
        ) from None
    with file:
        yield


def kind_of(home: Path) -> str | None:
    """Read the kind of a folder's data, demo or live; None if no lakehouse has run in the folder yet."""
    try:
        return (home / KIND_FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def claim(home: Path, kind: Kind) -> None:
    """Write into `home` that its data are of `kind`. Raises SettingError if they are already of the other kind."""
    found = kind_of(home)
    if found not in (kind, None):
        raise SettingError(
            f"{home} holds {found} data", f"a folder of {kind} data: simulated and live never mix", "use --home FOLDER"
        )
    (home / KIND_FILE).write_text(f"{kind}\n", encoding="utf-8")
    (home / NOTICE_FILES[kind]).write_text(NOTICES[kind], encoding="utf-8")


def save_environment(home: Path, variables: Mapping[str, str]) -> None:
    """Save the children's environment variables in `home`, for `lakehouse env` and for commands in other terminals."""
    partial = home / f"{SETTINGS_FILE}.partial"
    partial.write_text(json.dumps(dict(sorted(variables.items())), indent=1) + "\n", encoding="utf-8")
    partial.replace(home / SETTINGS_FILE)


def load_environment(home: Path) -> dict[str, str]:
    """Load the environment variables that `save_environment` saved in `home`.

    Raises SettingError if no lakehouse has run there.
    """
    try:
        saved = json.loads((home / SETTINGS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(
            f"no lakehouse has run in {home.absolute()}",
            "the folder of one",
            "start `lakehouse demo` or `lakehouse up`, or use --home FOLDER",
        ) from None
    return {str(name): str(value) for name, value in saved.items()}


def empty(home: Path) -> None:
    """Remove what a lakehouse wrote into `home`, and `home` itself if that leaves it empty. Call with the lock held."""
    for name in OWN_ENTRIES:
        path = home / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not any(home.iterdir()):
        home.rmdir()


def size(home: Path) -> int:
    """Return the total size in bytes of the files under `home`, without symbolic links."""
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink())
