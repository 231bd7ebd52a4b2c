"""No circle of imports, packages' `__init__` included, which the contracts of import-linter do not see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

PACKAGES = ("lakehouse", "assets", "jobs", "sensors")

#: Files of a package `made_up`, and whether they have a circle.
MADE_UP = {
    "none": ({"__init__": "", "a": "import made_up.b", "b": ""}, False),
    "two modules": ({"__init__": "", "a": "import made_up.b", "b": "import made_up.a"}, True),
    "over an __init__": ({"__init__": "from made_up.a import x", "a": "from made_up import y"}, True),
    "a package names its modules": ({"__init__": "", "p/__init__": "import made_up.p.a", "p/a": "", "b": ""}, False),
    "over the __init__ of a package that is passed": (
        {
            "__init__": "",
            "p/__init__": "import made_up.p.a",
            "p/a": "import made_up.q.b",
            "p/c": "",
            "q/__init__": "import made_up.q.d",
            "q/b": "",
            "q/d": "import made_up.p.c",
        },
        True,
    ),
    "type hints": (
        {
            "__init__": "",
            "a": "import made_up.b",
            "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import made_up.a",
        },
        True,
    ),
}


def ancestors(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def circle(packages: Iterable[str]) -> list[str]:
    """The modules of a circle, type hints included, or none.

    An import of `a.b.c` also runs the `__init__` of `a` and of `a.b`, unless the importer is itself below them: then
    they run already.
    """
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)
    imports: dict[str, set[str]] = {}
    for module in graph.modules:
        found = graph.find_modules_directly_imported_by(module)
        passed = {one for name in found for one in ancestors(name)} - {module, *ancestors(module)}
        imports[module] = found | passed
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_there_is_no_circle() -> None:
    assert circle(PACKAGES) == []


@pytest.mark.parametrize("case", MADE_UP)
def test_a_circle_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    files, has_circle = MADE_UP[case]
    package = f"made_up_{list(MADE_UP).index(case)}"  # grimp looks a package up by name, and Python remembers it
    for name, content in files.items():
        file = tmp_path / package / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.replace("made_up", package), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert bool(circle([package])) == has_circle
