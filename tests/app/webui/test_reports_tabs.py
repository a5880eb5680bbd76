"""The tabs Reports and Training."""

import json
import math
import shutil

import pytest
from PIL import Image

from feller.app.webui.run_state import Phase, read_state
from feller.app.webui.tabs.run_tabs import OLDER, guess_odds_text
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.evaluation.report.report_page import RunReport, write_report
from feller.training.callbacks import read_metrics
from tests.app.webui.asking import ask, options, tab_of


def test_guarantee_is_shown_once(on_page, fitted, tmp_path, monkeypatch):
    shutil.copytree(fitted("moons"), tmp_path / "run")
    page = on_page(tmp_path / "run")
    monkeypatch.setattr("feller.app.webui.tabs.run_tabs.guarantee_of", lambda run: "it is < 4.\nIn words: nearly all.")
    (tmp_path / "run" / "report.html").write_text("<p>it is &lt; 4.")
    assert ask(tab_of(page, "Reports")).message == "In words: nearly all."
    (tmp_path / "run" / "report.html").write_text("<p>other")
    assert ask(tab_of(page, "Reports")).message == "it is < 4.\nIn words: nearly all."


def test_only_reports_of_the_run_are_shown(on_page, fitted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(fitted("moons"), run)
    assert "feller evaluate" in ask(tab_of(on_page(run), "Reports")).message
    (tmp_path / "secret.html").write_text("secret")
    (run / "report-linked.html").symlink_to(tmp_path / "secret.html")
    (run / "report.html").write_text("<p>how good it is")
    (run / "report-audit.html").write_text("<p>what leaks")
    (run / "notes.html").write_text("mine")
    tab = tab_of(on_page(run), "Reports")
    assert options(tab, "report") == ("evaluation", "audit")
    assert ask(tab).page == "<p>how good it is"
    assert ask(tab, report="audit").page == "<p>what leaks"
    for name in ("linked", "report-audit", "../secret", "notes"):
        with pytest.raises(InputError):
            ask(tab, report=name)


def test_new_reports_are_shown(on_page, fitted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(fitted("moons"), run)
    tab = tab_of(on_page(run), "Reports")
    name, look_up = tab.dynamic_choices
    assert name == "report"
    (run / "report.html").write_text("<p>how good it is")
    assert ask(tab).page == "<p>how good it is"
    assert look_up() == ("evaluation",)
    (run / "report-audit.html").write_text("<p>what leaks")
    assert look_up() == ("evaluation", "audit")
    assert ask(tab, report="audit").page == "<p>what leaks"


def test_tabs_of_a_running_fit(on_page, fitted, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model.json", "recipe.json"):
        shutil.copy(fitted("digits") / name, run / name)
    page = on_page(run)
    follow, reports, draw = (tab_of(page, name) for name in ("Training", "Reports", "Sample"))
    with pytest.raises(InputError, match=r"weights|average"):
        ask(draw)
    record = json.loads((run / "recipe.json").read_text())
    record["recipe"]["train"]["steps"] = 140
    with Run(run).lock():
        (run / "recipe.json").write_text(json.dumps(record))
        lines = [{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": step} for step in (1, 10, 20)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        state = read_state(page[0])
        assert state.phase is Phase.TRAINING
        assert ask(reports).message == state.reporting
        assert "<svg" in ask(follow).drawing
        assert not ask(follow).is_finished
        assert first(draw).message
        Image.new("RGB", (4, 4)).save(run / "preview.png")
        assert [picture.caption for picture in first(draw).pictures] == ["Preview"]
        assert [picture.caption for picture in ask(follow).pictures] == ["Preview"]
        shutil.copy(fitted("digits") / "average.safetensors", run)
        assert [picture.caption for picture in first(draw).pictures] == ["Preview"]  # a fit holds the machine
        (run / "state.json").write_text(json.dumps({"step": 140, "seconds": 140.0}))
        assert ask(reports).message == read_state(page[0]).reporting != state.reporting
    write_report(run, RunReport(title="how good it is", numbers={"n": 100, "steps": 140}))
    assert "how good it is" in ask(reports).page
    assert ask(reports).is_finished
    assert ask(follow).is_finished
    (run / "state.json").write_text(json.dumps({"step": 100, "seconds": 100.0}))  # fitted anew, or for longer
    assert not ask(follow).is_finished
    assert OLDER in ask(reports).message


def first(tab):
    return tab.first_view()


def test_last_loss_is_recorded(fitted):
    assert [row["step"] for row in read_metrics(Run(fitted("moons")).metrics)] == [1, 3]


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 4.0, 20.0])
def test_odds_of_a_guess_bound_randomised_response(epsilon):
    """With e^epsilon : 1 and an open failure of probability delta, it reaches the bound."""
    delta = 1e-2
    odds = (1 - delta) * math.exp(epsilon) / (1 + math.exp(epsilon)) + delta
    stated = float(guess_odds_text(epsilon, delta).split("at most ")[1].split(" of")[0])
    assert odds * 100 - 1e-9 <= stated <= odds * 100 + 0.11


def test_words_for_odds():
    for epsilon, words in ((0.1, "close to guessing"), (2.0, "uncertain"), (10.0, "no protection")):
        assert words in guess_odds_text(epsilon, 1e-6)
