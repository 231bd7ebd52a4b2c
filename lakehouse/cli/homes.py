"""Which lake a command is about, where nobody said so."""

from __future__ import annotations

import os
from pathlib import Path

from lakehouse.errors import TerminalError
from lakehouse.settings import Settings, load_settings

ROOT = Path(".lakehouse")


def settings_of(home: Path | None) -> Settings:
    """Settings of the lake in `home`; else of LAKEHOUSE_HOME or LAKEHOUSE_LAKE_URI; else of the newest lake here.

    Raises TerminalError where `home` holds no lake, or where none of these is given and there is no lake here.
    """
    if home is None and not {"LAKEHOUSE_HOME", "LAKEHOUSE_LAKE_URI"} & {name.upper() for name in os.environ}:
        home = newest_home(ROOT)
    settings = load_settings(home=home)
    if "://" not in settings.lake and not Path(settings.lake).is_dir():
        raise TerminalError(f"no lake at {settings.lake}", "a lake that has been started", "start `lakehouse demo`")
    return settings


def settings_as_started(home: Path | None) -> Settings:
    """As `settings_of`, with the settings that the lakehouse in that home was started with, if one was.

    For commands that must reach its broker and its venues. What the environment of this process says goes first.
    """
    from lakehouse.control_room import folder

    settings = settings_of(home)
    if not (settings.home / folder.SETTINGS_FILE).is_file():
        return settings
    prefix = str(Settings.model_config["env_prefix"])
    ours = {name.upper() for name in os.environ}
    saved = {
        name.removeprefix(prefix).lower(): value
        for name, value in folder.load_environment(settings.home).items()
        if name.startswith(prefix) and name not in ours
    }
    return load_settings(**{**saved, "home": settings.home})


def newest_home(root: Path) -> Path:
    """The home under `root` whose lake had the newest commit. Raises TerminalError where there is none."""
    # A folder's time changes with each file put into it: a Delta log's with each commit.
    ages = {
        lake.parent: max((log.stat().st_mtime for log in lake.glob("*/*/_delta_log")), default=lake.stat().st_mtime)
        for lake in root.glob("*/lake")
        if lake.is_dir()
    }
    if not ages:
        raise TerminalError(
            f"no lake under {root.absolute()}", "one that has been started", "start `lakehouse demo` or give --home"
        )
    return max(ages, key=lambda home: ages[home])
