"""What people see: a line each tenth in a log, an announcement of what takes time, warnings in words."""

import contextlib
import io
import warnings

import pytest
from rich.console import Console

from feller.app import terminal
from feller.app.reporter import Reporter, Warner
from feller.app.terminal import TerminalReporter, progress_reporter, show_numbers, show_own_warnings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_each_tenth(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """A quarter of an hour in 900 reports: ten lines at most, evenly spread, after the one that announces the task."""
    tell = TerminalReporter()
    tell.start("training")
    for i in range(1, 901):
        clock[0] = float(i)
        tell.progress(i / 900, f"step {i}")
    tell.finish()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training ..."
    assert [line.split(":")[1].split()[0] for line in lines[1:]] == [f"{tenth}0%" for tenth in range(1, 11)]


def test_a_short_task_has_its_name_only(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    tell = TerminalReporter()
    tell.start("judging the samples")
    for i in range(1, 101):
        clock[0] = i / 50
        tell.progress(i / 100)
    tell.finish()
    assert capsys.readouterr().err == "judging the samples ...\n"


def test_a_terminal_shows_what_is_waited_for_and_a_log_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    tell = TerminalReporter()
    with tell.spinner("reading photos"):
        pass
    assert capsys.readouterr().err == ""
    tell.console = Console(file=(seen := io.StringIO()), force_terminal=True, width=60)
    with tell.spinner("reading [red]photos"):
        tell.log("a note")
    assert "reading [red]photos ..." in seen.getvalue()
    assert "a note" in seen.getvalue()


class ZMQInteractiveShell:
    """What a notebook calls its shell, by which it is known."""


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_shows_progress(widgets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a bar where widgets are installed, else in lines; elsewhere only where it is asked for."""
    with progress_reporter(None) as tell:
        assert isinstance(tell, Warner)
    with progress_reporter(True) as tell:
        assert isinstance(tell, TerminalReporter)
        assert not tell.has_bar
    monkeypatch.setattr("builtins.get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setattr(terminal, "find_spec", lambda name: object() if widgets else None)
    with progress_reporter(None) as tell:
        assert isinstance(tell, TerminalReporter)
        assert tell.has_bar == widgets
    with progress_reporter(False) as tell:
        assert isinstance(tell, Warner)


def test_the_report_is_named_last(capsys: pytest.CaptureFixture[str]) -> None:
    show_numbers({"fd_cnn": 1.5, "report": "runs/a/report.html", "gone": None}, TerminalReporter())
    assert [line.split() for line in capsys.readouterr().err.splitlines()] == [
        ["fd_cnn", "1.5"],
        ["report:", "runs/a/report.html"],
    ]


class Listener(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


def test_our_warnings_are_told_and_those_of_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    tell, ours = Listener(), terminal.__file__
    with contextlib.redirect_stderr(io.StringIO()) as err, warnings.catch_warnings():
        warnings.showwarning = lambda *about: err.write(f"{about[2]}: {about[0]}")
        with show_own_warnings(tell):
            warnings.simplefilter("always")
            warnings.warn_explicit("x.sdf: 2 of 3 molecules are written without bonds", UserWarning, ours, 7)
            warnings.warn_explicit("old", UserWarning, "/elsewhere/other.py", 7)
    assert tell.lines == ["x.sdf: 2 of 3 molecules are written without bonds"]
    assert err.getvalue() == "/elsewhere/other.py: old"


def test_what_is_promised_stands_last(capsys: pytest.CaptureFixture[str]) -> None:
    """Under fifty numbers nobody would see it."""
    numbers = {"epsilon": 0.9999, "delta": 1e-5, "rows_protected": 287, "nll": 3.0, "report": "r/report.html"}
    show_numbers(numbers, TerminalReporter())
    *_, promise, report = capsys.readouterr().err.splitlines()
    assert promise.startswith("each of 287 rows is protected by epsilon 0.9999 at delta 1e-05")
    assert report == "report: r/report.html"
