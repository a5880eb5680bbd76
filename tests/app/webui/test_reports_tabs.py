"""Tabs that show what a run found, and follow one that is fitted."""

import json
import pathlib
import shutil
from typing import Any

import pytest
from PIL import Image

from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.training.callbacks import read_metrics
from tests.app.webui.asking import OnPage, ask, options, tab_of


def test_a_guarantee_is_said_once(on_page: OnPage, fitted: Any, tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    shutil.copytree(fitted("moons"), tmp_path / "run")
    page = on_page(tmp_path / "run")
    monkeypatch.setattr(
        "feller.app.webui.tabs.reports_tab.guarantee_of", lambda run: "it is < 4.\nIn words: nearly all."
    )
    (tmp_path / "run" / "report.html").write_text("<p>it is &lt; 4.")
    assert ask(tab_of(page, "Reports")).message == "In words: nearly all."
    (tmp_path / "run" / "report.html").write_text("<p>other")
    assert ask(tab_of(page, "Reports")).message == "it is < 4.\nIn words: nearly all."


def test_reports_of_the_run_alone_are_shown(on_page: OnPage, fitted: Any, tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(fitted("moons"), run)
    with pytest.raises(InputError, match="feller evaluate"):
        ask(tab_of(on_page(run), "Reports"))
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


def test_reports_that_are_made_while_the_page_is_open_are_there(
    on_page: OnPage, fitted: Any, tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(fitted("moons"), run)
    tab = tab_of(on_page(run), "Reports")
    assert tab.dynamic_choices is not None
    name, look_up = tab.dynamic_choices
    assert name == "report"
    (run / "report.html").write_text("<p>how good it is")
    assert ask(tab).page == "<p>how good it is"
    assert look_up() == ("evaluation",)
    (run / "report-audit.html").write_text("<p>what leaks")
    assert look_up() == ("evaluation", "audit")
    assert ask(tab, report="audit").page == "<p>what leaks"


def test_a_running_fit_is_followed_from_before_its_first_step(on_page: OnPage, fitted: Any, tmp_path: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model.json", "recipe.json"):
        shutil.copy(fitted("digits") / name, run / name)
    page = on_page(run)
    follow = tab_of(page, "Training")
    assert follow.refresh_seconds is not None
    assert "no saved step yet" in ask(follow).message
    with pytest.raises(InputError, match=r"weights|average"):
        ask(tab_of(page, "Sample"))
    lines = [{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": step} for step in (1, 10, 20)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3')
    found = ask(follow)
    assert "step 20, loss 0.05; no saved weights yet" in found.message  # more than were planned
    record = json.loads((run / "recipe.json").read_text())
    record["recipe"]["train"]["steps"] = 140
    (run / "recipe.json").write_text(json.dumps(record))
    told = "step 20 of 140, 14 %, about 2 minutes of training left, then the report, loss 0.05;"
    with Run(run).lock():
        assert told in ask(follow).message
    assert "step 20 of 140, 14 %, loss 0.05; no saved weights yet; not running now" in ask(follow).message
    timed = {**record, "recipe": {**record["recipe"], "train": {"minutes": 2.0}}}
    (run / "recipe.json").write_text(json.dumps(timed))
    with Run(run).lock():
        assert "step 20, about 1.7 minutes of training left, then the report, loss 0.05;" in ask(follow).message
    (run / "recipe.json").write_text(json.dumps(record))
    assert "<svg" in found.drawing
    Image.new("RGB", (4, 4)).save(run / "preview.png")
    shutil.copy(fitted("digits") / "average.safetensors", run)
    found = ask(follow)
    assert "no saved" not in found.message
    assert [picture.caption for picture in found.pictures] == ["Preview"]
    assert ask(tab_of(page, "Sample")).pictures
    assert not found.is_finished
    (run / "state.json").write_text(json.dumps({"step": 140, "seconds": 140.0}))
    with Run(run).lock():
        found = ask(follow)
    assert "all 140 steps are done; the report is being written" in found.message
    assert "refreshes" in found.message
    assert not found.is_finished
    assert "the report is missing; create it with: feller evaluate" in ask(follow).message  # Ctrl-C came before it
    (run / "report.html").write_text("<p>how good it is")
    found = ask(follow)
    assert "finished after 140 steps; see the report" in found.message
    assert "refreshes" not in found.message
    assert found.is_finished
    (run / "state.json").write_text(json.dumps({"step": 100, "seconds": 100.0}))  # fitted anew, or for longer
    assert not ask(follow).is_finished


def test_the_last_loss_is_there(fitted: Any) -> None:
    assert [row["step"] for row in read_metrics(Run(fitted("moons")).metrics)] == [1, 3]
