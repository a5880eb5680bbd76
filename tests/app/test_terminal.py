"""Progress, notes and results in a terminal, a log and a notebook."""

import contextlib
import io
import json
import warnings

import pytest
from rich.console import Console

from feller.app import terminal
from feller.app.reporter import Reporter, Warner
from feller.app.terminal import TerminalReporter, progress_reporter, show_metrics, show_numbers, show_own_warnings
from feller.evaluation.metrics import METRICS


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_log_has_a_line_each_tenth(clock, capsys):
    tell = TerminalReporter()
    tell.start("training")
    for i in range(1, 901):
        clock[0] = float(i)
        tell.progress(i / 900, f"step {i}")
    tell.finish()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training ..."
    assert [line.split(":")[1].split()[0] for line in lines[1:]] == [f"{tenth}0%" for tenth in range(1, 11)]


def test_short_task_has_one_line(clock, capsys):
    tell = TerminalReporter()
    tell.start("judging the samples")
    for i in range(1, 101):
        clock[0] = i / 50
        tell.progress(i / 100)
    tell.finish()
    assert capsys.readouterr().err == "judging the samples ...\n"


def test_spinner(capsys):
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
    """Name of the class of a notebook's shell."""


@pytest.mark.parametrize("widgets", [True, False])
def test_notebook_shows_progress(widgets, monkeypatch):
    """As a bar if widgets are installed, else in lines."""
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


def test_guarantee_and_report_come_last(capsys):
    numbers = {"epsilon": 0.9999, "delta": 1e-5, "rows_protected": 287, "nll": 3.0, "report": "r/report.html"}
    show_numbers({**numbers, "gone": None}, TerminalReporter())
    *others, promise, report = capsys.readouterr().err.splitlines()
    assert ["nll", "3"] in [line.split() for line in others]
    assert not any("gone" in line for line in others)
    assert "287 rows" in promise
    assert report == "report: r/report.html"


def test_main_metrics_stand_next_to_their_references(tmp_path, capsys):
    metrics = {"nll": 3.0, "nll_baseline": 4.0, "tv1": None, "epsilon": 2.0, "report": str(tmp_path / "report.html")}
    (tmp_path / "report.json").write_text(json.dumps({"verdict": "Good: so it is", "numbers": {}}))
    show_metrics(metrics, TerminalReporter())
    first, verdict, report = capsys.readouterr().err.splitlines()
    label, value = first.split("  ")[0], first.split()[-1]
    assert label == METRICS["nll"].label
    assert value == METRICS["nll"].text(4.0)
    assert verdict == "verdict: Good: so it is"
    assert str(tmp_path / "report.json") in report


def test_names_in_brackets_are_no_markup(tmp_path, capsys):
    (tmp_path / "report.json").write_text(json.dumps({"verdict": "Good"}))
    metrics = {"mae_price [EUR]": 3.0, "mae_share[/share]": 4.0, "told_column": "[/bold]"}
    show_metrics({**metrics, "report": str(tmp_path / "report.html")}, TerminalReporter())
    shown = capsys.readouterr().err
    assert "[EUR]" in shown
    assert "[/share]" in shown
    show_metrics({**metrics, "report": None}, TerminalReporter())
    shown = capsys.readouterr().err
    assert "[/bold]" in shown
    assert "report" not in shown


class Listener(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


def test_own_warnings_are_logged(monkeypatch):
    tell, ours = Listener(), terminal.__file__
    with contextlib.redirect_stderr(io.StringIO()) as err, warnings.catch_warnings():
        warnings.showwarning = lambda *about: err.write(f"{about[2]}: {about[0]}")
        with show_own_warnings(tell):
            warnings.simplefilter("always")
            warnings.warn_explicit("x.sdf: 2 of 3 molecules are written without bonds", UserWarning, ours, 7)
            warnings.warn_explicit("old", UserWarning, "/elsewhere/other.py", 7)
    assert tell.lines == ["x.sdf: 2 of 3 molecules are written without bonds"]
    assert err.getvalue() == "/elsewhere/other.py: old"
