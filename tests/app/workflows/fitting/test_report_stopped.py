"""A fit that is stopped while its report is made says that the training is saved, and how the report is made."""

import os
import pathlib
import signal
import time

import pytest

from feller.app.cli import main
from feller.app.reporter import SILENT
from feller.app.workflows.fit import _evaluate
from feller.app.workflows.fitting.data_access import OpenData
from feller.app.workflows.fitting.plan_fit import plan_fit
from feller.app.workflows.fitting.recipe_request import RecipeRequest
from feller.app.workflows.fitting.run_training import Interrupted
from feller.core.run_folder import Run
from tests.records import fit_record

SAVED = "interrupted; the training is saved. Write its report with: feller evaluate r"


def stop_with(number):
    def stopped(*args, **named):
        os.kill(os.getpid(), number)
        time.sleep(5)

    return stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_training_is_saved_and_the_command_is_named(number, monkeypatch):
    before, heard = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", stop_with(number))
    asked = fit_record(data="example:moons", recipe="points", size="tiny", seed=0)
    try:  # what runs in the background may have been begun without a handler of Ctrl-C
        plan = plan_fit(asked, OpenData(), RecipeRequest(name="points", size="tiny"))
        with pytest.raises(Interrupted) as caught:
            _evaluate(Run(pathlib.Path("r")), plan, "full", SILENT)
    finally:
        signal.signal(signal.SIGINT, heard)
    assert str(caught.value) == SAVED
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_the_command_makes_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("feller.app.workflows.evaluate.flow_quality", stop_with(signal.SIGTERM))
        words = ["fit", "example:moons", "--size", "tiny", "--steps", "2", "--sampling.nfe", "2", "--out", "r"]
        assert main(words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"feller: {SAVED}"
    assert main(["evaluate", "r"]) == 0
    assert pathlib.Path("r/report.html").is_file()
