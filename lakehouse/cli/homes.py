"""The lakehouse that a command is about, if nobody names one.

Every command takes the same: `--home`; else LAKEHOUSE_HOME or LAKEHOUSE_LAKE_URI; else the one that runs here; else the
one with the newest commit.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lakehouse.errors import TerminalError
from lakehouse.settings import Settings, load_settings

ROOT = Path(".lakehouse")


def settings_of(home: Path | None) -> Settings:
    """Settings of the lake in `home`, else of the default lakehouse (see the module).

    Raises TerminalError if there is no lake.
    """
    if home is None and not is_named_by_environment():
        home = default_home(ROOT)
    settings = load_settings(home=home)
    if "://" not in settings.lake and not Path(settings.lake).is_dir():
        raise TerminalError(f"no lake at {settings.lake}", "a lake that has been started", "start `lakehouse demo`")
    return settings


def settings_as_started(home: Path | None) -> Settings:
    """Settings with which the lakehouse in that home was started, else those of `settings_of`.

    Variables of this process's environment take precedence.
    """
    return started_settings(settings_of(home))


def started_settings(settings: Settings) -> Settings:
    """The settings that the lakehouse in this home was started with, if one was; the environment takes precedence."""
    from lakehouse.local_stack import home_folder

    if not (settings.home / home_folder.SETTINGS_FILE).is_file():
        return settings
    prefix = str(Settings.model_config["env_prefix"])
    ours = {name.upper() for name in os.environ}
    saved = {
        name.removeprefix(prefix).lower(): value
        for name, value in home_folder.load_environment(settings.home).items()
        if name.startswith(prefix) and name not in ours
    }
    return load_settings(**{**saved, "home": settings.home})


def is_named_by_environment() -> bool:
    """True if the environment names the lakehouse that is meant."""
    return bool({"LAKEHOUSE_HOME", "LAKEHOUSE_LAKE_URI"} & {name.upper() for name in os.environ})


def default_home(root: Path) -> Path:
    """The newest home under `root` that runs, else the newest of all. Raises TerminalError if there is none.

    One that runs counts from its first moment, before it has a lake.
    """
    running = [home for home in root.glob("*") if home.is_dir() and is_running(home)]
    if not running:
        return newest(root)
    ages = _ages(root)
    return max(running, key=lambda home: ages.get(home, home.stat().st_mtime))


def newest(root: Path) -> Path:
    """The home under `root` whose lake had the newest commit. Raises TerminalError if there is none."""
    ages = _ages(root)
    if not ages:
        raise TerminalError(
            f"no lake under {root.absolute()}", "one that has been started", "start `lakehouse demo` or give --home"
        )
    return max(ages, key=lambda home: ages[home])


def is_running(home: Path) -> bool:
    """True if processes of a `lakehouse demo` or `up` in this home are alive on this machine."""
    from lakehouse.local_stack.processes import marked_processes

    return bool(marked_processes(home))


def may_be_supervised(settings: Settings) -> bool:
    """False only if a `demo` or `up` kept its Dagster in this home and no longer runs.

    Another lakehouse may have taken its port since.
    """
    from lakehouse.local_stack import home_folder

    return not (settings.home / home_folder.SETTINGS_FILE).is_file() or is_running(settings.home)


def home_or_default(home: Path | None) -> Path | None:
    """`home`, else the default lakehouse's; None if the environment names it or there is none yet."""
    if home is None and not is_named_by_environment():
        with contextlib.suppress(TerminalError):
            return default_home(ROOT)
    return home


def _ages(root: Path) -> dict[Path, float]:
    """Home → when its lake had the newest commit, seconds since the epoch."""
    # A folder's time changes with each file put into it: a Delta log's with each commit.
    return {
        lake.parent: max((log.stat().st_mtime for log in lake.glob("*/*/_delta_log")), default=lake.stat().st_mtime)
        for lake in root.glob("*/lake")
        if lake.is_dir()
    }
