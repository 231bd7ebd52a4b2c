"""Refuse sentences in docstrings and comments that hide their subject or say "where" for "if".

    python .ci/plain_english.py FOLDER…

The patterns are the worst that reviews have found; CONTRIBUTING.md has the rule. One line for each sentence; exit code
1 if there is any.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from sizes import files_in  # beside this script

#: Pattern → what to write instead. They are matched within one paragraph of a docstring, or one block of comments.
PATTERNS = {
    r"(?:^|[.!?] )(?:Of |As (?!long|soon)|What |Whether |Whose |Who )[^.]*|^That (?!is|was|way)[^.]*": (
        "begin with the subject or an imperative"
    ),
    r"\bwhere (?:there|none|nothing|nobody|no one|no)\b": 'write "if"',
    r"\bwhere (?:it|that|this|they|one|any) (?:fails|cannot|is not|does not|do not|would|has not)\b": 'write "if"',
    r"\b[Ff]or ?ever\b": "say how long, or until when",
    r"\b(?:to be had|be it|whosoever)\b": "say it plainly",
}


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring's paragraph and each block of comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = ast.get_docstring(node)
            if found:
                for paragraph in re.split(r"\n\s*\n", found):
                    yield node.body[0].lineno, " ".join(paragraph.split())
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last + 1:
            yield last, " ".join(block)
            block = []
        block.append(token.string.lstrip("#: "))
        last = token.start[0]
    if block:
        yield last, " ".join(block)


def faults(path: Path) -> Iterator[str]:
    """One line for each sentence of a file that matches a pattern."""
    for line, text in texts(path.read_text(encoding="utf-8")):
        for pattern, instead in PATTERNS.items():
            for match in re.finditer(pattern, text):
                yield f"{path}:{line}: {match.group(0).strip()[:60]!r}: {instead}"


def main(folders: list[str]) -> int:
    """Print every fault; 1 if there is any."""
    found = [line for file in files_in(folders) for line in faults(file)]
    if found:
        print("\n".join(found), file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
