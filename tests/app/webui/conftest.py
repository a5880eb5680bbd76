"""Runs of every kind, each fitted for a few steps, and what a tab has around it."""

import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from feller.app.cli import main
from feller.app.webui.loaded_run import load_runs
from feller.app.webui.tab import PageContext
from feller.core.run_folder import Run
from feller.evaluation.report.report_page import RunReport, write_report

SHORT = ("--size", "tiny", "--steps", "3", "--sampling.nfe", "4")
CONDITIONS = {"clocks": ("--condition", "length", "clock")}
"""Conditions that are selected in a fit."""
PLACES = 40
"""Rows of the table."""


def _table(path):
    rows = [f"{20 + i % 50},{('School', 'Masters')[i % 2]},{('yes', 'no')[i % 3 > 0]}" for i in range(300)]
    path.write_text("\n".join(["age,education,married", *rows]) + "\n")
    return path


def _clocks(path):
    rows = [f"{i % 7 / 7:.3f},{i % 5 + 0.5},{('sensor', 'stopwatch')[i % 2]}" for i in range(200)]
    path.write_text("\n".join(["period,length,clock", *rows]) + "\n")
    return path


def _text(path):
    path.write_text("To be, or not to be, that is the question. The rest is silence. " * 100)
    return path


def _places(path):
    u = np.random.default_rng(0).normal(size=(60, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    rows = np.stack([np.rad2deg(np.arcsin(u[:, 2])), np.rad2deg(np.arctan2(u[:, 1], u[:, 0]))], 1)
    np.savetxt(path, rows, delimiter=",", header="latitude,longitude", comments="")
    return path


SOURCES: dict[str, Callable[[pathlib.Path], object]] = {
    "digits": lambda home: "example:digits",
    "moons": lambda home: "example:moons",
    "people": lambda home: _table(home / "people.csv"),
    "clocks": lambda home: _clocks(home / "clocks.csv"),
    "book": lambda home: _text(home / "book.txt"),
    "quakes": lambda home: _places(home / "quakes.csv"),
    "molecules": lambda home: "example:molecules",
    "crystals": lambda home: "example:perovskites",
    "proteins": lambda home: "example:backbones",
}


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """Return what fits a run of a kind once; without a report, which is tested elsewhere."""
    home, done = tmp_path_factory.mktemp("studio"), dict[str, pathlib.Path]()

    def fit(name):
        if name not in done:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
                words = ["fit", str(SOURCES[name](home)), *CONDITIONS.get(name, ()), *SHORT]
                assert main([*words, "--out", str(home / "runs" / name)]) == 0
            done[name] = home / "runs" / name
        return done[name]

    return fit


@pytest.fixture(scope="session")
def bridged(tmp_path_factory):
    """Return a bridge between two crowds in the plane, after one short round ahead and one back."""
    home, rng = tmp_path_factory.mktemp("bridged"), np.random.default_rng(0)
    for name, middle in (("a", (-2, 0)), ("b", (2, 1))):
        np.savetxt(home / f"{name}.csv", rng.normal(middle, 0.3, (30, 2)), delimiter=",", header="x,y", comments="")
    short = ("--pairs", "64", "--train.steps", "5", "--train.batch-size", "64", "--control.steps", "5", "--nfe", "28")
    short += ("--control.mean-knots", "5", "--control.scale-knots", "5", "--rounds", "2", "--noise", "0.5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.bridge.report_bridge", lambda *_: {})
        assert main(["bridge", str(home / "a.csv"), str(home / "b.csv"), *short, "--out", str(home / "run")]) == 0
    return home / "run"


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """Return a function that copies a run and writes a report; the page polls the state of a run without one."""
    home = tmp_path_factory.mktemp("reported")

    def copy(run, name):
        if not (home / name).exists():
            shutil.copytree(run, home / name)
            write_report(home / name, RunReport(title=name))
        return home / name

    return copy


@pytest.fixture
def on_page(fitted, tmp_path):
    """Return what opens runs for the page: the first, and what is around it."""
    pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")
    folder = tmp_path / "page"

    def page(*names, rewards=()):
        folder.mkdir(exist_ok=True)
        runs = load_runs([Run(fitted(name) if isinstance(name, str) else name) for name in names])
        return runs[0], PageContext(runs=runs, folder=folder, rewards=rewards)

    return page
