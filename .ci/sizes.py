"""Refuse modules of more than 300 lines and functions of more than 60.

    python .ci/sizes.py FOLDER…

One line for each; exit code 1 if there is any.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 300
FUNCTION_LINES = 60


def files_in(folders: list[str]) -> list[Path]:
    """Return the Python files of folders, or files themselves. Ends the program if one does not exist."""
    for folder in folders:
        if not Path(folder).exists():
            sys.exit(f"{folder} does not exist; expected a folder or a file of this project")
    return sorted(
        file for folder in map(Path, folders) for file in (folder.rglob("*.py") if folder.is_dir() else [folder])
    )


def faults(path: Path) -> Iterator[str]:
    """Yield one line for the module if it is too long, and for each function that is."""
    source = path.read_text(encoding="utf-8")
    lines = source.count("\n")
    if lines > MODULE_LINES:
        yield f"{path}: {lines} lines; expected at most {MODULE_LINES}: split it by subject"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines; expected at most {FUNCTION_LINES}"


def main(folders: list[str]) -> int:
    """Print every fault; 1 if there is any."""
    found = [line for file in files_in(folders) for line in faults(file)]
    if found:
        print("\n".join(found), file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
