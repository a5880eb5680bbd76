"""Few files stand between the command and the first step."""

import pathlib
import sys

import feller
from feller.training.objective import FlowMatching
from tests.app.asked import run

PACKAGE = pathlib.Path(feller.__file__).parent
MOST = 10


def test_a_batch_passes_few_files(tmp_path, monkeypatch):
    """Those that have called each other where the first example is drawn, and those that made its rows."""
    passed: list[set[str]] = []
    draw = FlowMatching.draw

    def callers():
        frame, found = sys._getframe(2), set()
        while frame is not None:
            path = pathlib.Path(frame.f_code.co_filename)
            found |= {str(path.relative_to(PACKAGE))} if path.is_relative_to(PACKAGE) else set()
            frame = frame.f_back
        return found

    def seen(self, *args):
        passed.append(callers())
        return draw(self, *args)

    monkeypatch.setattr(FlowMatching, "draw", seen)
    run("fit", "example:moons", "--size", "tiny", "--steps", 1, "--report", "none", "--out", tmp_path / "run")
    of_rows = {"app/workflows/fitting/data_access.py", "data/batches.py", "training/objective.py"}
    assert "training/loop.py" in passed[-1]
    assert len(passed[-1] | of_rows) <= MOST
