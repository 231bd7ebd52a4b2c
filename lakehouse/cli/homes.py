"""The lakehouse that a command is about, if nobody names one.

Every command takes, in this order: `--home`; LAKEHOUSE_HOME or LAKEHOUSE_LAKE_URI; the lakehouse that runs here; the
lakehouse with the newest commit.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lakehouse.errors import TerminalError
from lakehouse.settings import Settings, load_settings

#: Folder in the working directory that holds the homes `demo` and `live`.
ROOT = Path(".lakehouse")


def settings_of(home: Path | None) -> Settings:
    """Return the settings of the lake in `home`; if it is None, of the default lakehouse (see the module).

    Raises TerminalError if there is no lake; a lake at a URI is not looked for. Raises SettingError like
    `load_settings`.
    """
    if home is None and not is_named_by_environment():
        home = default_home(ROOT)
    settings = load_settings(home=home)
    if "://" not in settings.lake and not Path(settings.lake).is_dir():
        raise TerminalError(f"no lake at {settings.lake}", "a lake that has been started", "start `lakehouse demo`")
    return settings


def settings_as_started(home: Path | None) -> Settings:
    """Return the settings with which the lakehouse in `home` was started; if it is None, the default lakehouse.

    If it was never started, returns those of `settings_of`. Variables of this process's environment take precedence.
    Raises like `settings_of`.
    """
    return started_settings(settings_of(home))


def started_settings(settings: Settings) -> Settings:
    """Return the settings with which the lakehouse in `settings.home` was started; `settings` if it never was.

    Variables of this process's environment take precedence.
    """
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
    """Return True if the environment names the lakehouse that is meant: LAKEHOUSE_HOME or LAKEHOUSE_LAKE_URI."""
    return bool({"LAKEHOUSE_HOME", "LAKEHOUSE_LAKE_URI"} & {name.upper() for name in os.environ})


def default_home(root: Path) -> Path:
    """Return the home under `root` whose lakehouse runs, else the home with the newest commit.

    If several run, return the home with the newest commit among them; a running lakehouse counts even before it has a
    lake. Raises TerminalError if there is no home.
    """
    running = [home for home in root.glob("*") if home.is_dir() and is_running(home)]
    if not running:
        return newest(root)
    ages = _ages(root)
    return max(running, key=lambda home: ages.get(home, home.stat().st_mtime))


def newest(root: Path) -> Path:
    """Return the home under `root` whose lake had the newest commit. Raises TerminalError if there is no lake."""
    ages = _ages(root)
    if not ages:
        raise TerminalError(
            f"no lake under {root.absolute()}", "one that has been started", "start `lakehouse demo` or give --home"
        )
    return max(ages, key=lambda home: ages[home])


def is_running(home: Path) -> bool:
    """Return True if processes of a `lakehouse demo` or `up` in this home are alive on this machine."""
    from lakehouse.local_stack.processes import marked_processes

    return bool(marked_processes(home))


def may_be_supervised(settings: Settings) -> bool:
    """Return True if the Dagster at the settings' port may belong to this lakehouse, so that it can be asked for runs.

    False only if a `demo` or `up` has run in this home and no longer does: another lakehouse may have its port now.
    """
    from lakehouse.local_stack import home_folder

    return not (settings.home / home_folder.SETTINGS_FILE).is_file() or is_running(settings.home)


def home_or_default(home: Path | None) -> Path | None:
    """Return `home`, or the default lakehouse's home if it is None.

    The result is None if the environment names a lakehouse or there is none yet.
    """
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
