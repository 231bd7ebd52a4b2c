from __future__ import annotations

import pytest
import typer

import lakehouse.cli
from lakehouse import errors
from lakehouse.errors import LakehouseError, RetriableError, SettingError, TerminalError, VenueError, one_line


def test_the_one_line() -> None:
    assert str(LakehouseError("port 3000 is taken")) == "port 3000 is taken"
    assert str(LakehouseError("Java 11", "Java 17 or 21")) == "Java 11; expected Java 17 or 21"
    assert str(LakehouseError("a", "b", "do c")) == "a; expected b; do c"
    assert str(LakehouseError("a", remedy="do c")) == "a; do c"


def kinds() -> list[type[LakehouseError]]:
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, LakehouseError) and kind is not LakehouseError
    ]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_an_error_is_retriable_or_terminal_and_never_exits_with_0(kind: type[LakehouseError]) -> None:
    assert issubclass(kind, RetriableError) != issubclass(kind, TerminalError)
    assert kind.exit_code != 0
    assert kind("found").found == "found"


def test_a_venue_error_carries_the_wait() -> None:
    assert VenueError("limited", retry_after=1.5).retry_after == 1.5
    assert VenueError("limited").retry_after is None


@pytest.mark.parametrize(
    ("error", "code"),
    [(SettingError("setting x", "y", "set z"), 64), (RetriableError("busy"), 75), (TerminalError("no"), 1)],
)
def test_the_command_line_prints_one_line_and_exits_with_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: LakehouseError, code: int
) -> None:
    def app() -> typer.Typer:
        raise error

    monkeypatch.setattr(lakehouse.cli, "build_app", app)
    with pytest.raises(SystemExit) as exit_info:
        lakehouse.cli.main()
    assert exit_info.value.code == code
    assert capsys.readouterr().err == f"lakehouse: {error}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "OSError"),
        ("disk\n\nat Foo.bar(Foo.java)", "OSError: disk"),
        (
            "An error occurred while calling o1.x.\n: java.io.IOException: No space left",
            "java.io.IOException: No space left",
        ),
        (
            "An error occurred while calling o1.save.\n: org.apache.spark.SparkException: [WRITE_FAILED] Failed.\n"
            "\tat a.b(C.scala:1)\nCaused by: org.apache.spark.SparkException: Task failed\n\t... 3 more\n"
            "Caused by: java.io.IOException: No space left on device\n\tat java.base/x.y(Z.java)\n",
            "org.apache.spark.SparkException: [WRITE_FAILED] Failed.: java.io.IOException: No space left on device",
        ),
        (
            "Job aborted.\n\nJVM stacktrace:\nCaused by: java.io.IOException: No space left on device",
            "OSError: Job aborted.: java.io.IOException: No space left on device",
        ),
        (
            "Generic LocalFileSystem error\n  \x1b[31m↳\x1b[0m Unable to copy\n  \x1b[31m↳\x1b[0m No space left (28)\n",
            "OSError: Generic LocalFileSystem error: Unable to copy: No space left (28)",
        ),
    ],
)
def test_one_line_of_a_foreign_error_names_its_cause(text: str, line: str) -> None:
    assert one_line(OSError(text)) == line
