"""The tab that sets two runs or checkpoints side by side, with what their numbers mean."""

import json
import shutil

from feller.app.webui.tabs.compare_tab import tuning_table
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.evaluation.metrics import METRICS
from feller.evaluation.report.report_page import RunReport, write_report
from tests.app.webui.asking import ask, options, tab_of


def test_two_runs_and_two_checkpoints_stand_side_by_side(on_page, fitted, tmp_path):
    shutil.copytree(fitted("digits"), tmp_path / "other")
    page = on_page("digits", tmp_path / "other", "moons")
    tab = tab_of(page, "Compare")
    first, second = options(tab, "first"), options(tab, "second")
    assert len(first) == 4
    assert second[0].startswith("other")
    left, right = ask(tab).pictures
    assert left.path.read_bytes() == right.path.read_bytes()  # the same weights and seed
    weights, about = load_tensors(tmp_path / "other" / "weights.safetensors")
    save_tensors(tmp_path / "other" / "weights.safetensors", {name: 2 * one for name, one in weights.items()}, about)
    last = next(name for name in first if "other" in name and "last" in name)
    left, right = ask(tab, second=last).pictures
    assert left.path.read_bytes() != right.path.read_bytes()


def test_two_tables_stand_side_by_side_with_the_numbers_of_their_reports(on_page, fitted, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(fitted("people"), tmp_path / name)
    page = on_page(tmp_path / "one", tmp_path / "two")
    assert ask(tab_of(page, "Compare")).numbers is None  # neither has been evaluated
    numbers = {"one": {"tv2": 0.25, "tv2_floor": 0.125, "steps": 3}, "two": {"tv2": 0.5, "valid": 1.0, "steps": 4}}
    means = {"tv2": "Share of the rows: lower is better.", "valid": "Share that fits."}
    for name, found in numbers.items():
        (tmp_path / name / "report.json").write_text(json.dumps({"numbers": found, "explanations": means}))
    tab = tab_of(page, "Compare")
    found = ask(tab, seed=4)
    left, right = found.sides
    assert (left.title, right.title) == (tab.controls["first"].value, tab.controls["second"].value)
    assert left.cells == right.cells == ask(tab_of(page, "Sample"), seed=4).table.cells
    assert found.words == ""
    assert found.numbers.columns == ("metric", "one", "two", "reference", "meaning")
    there = {row[0]: [cell.replace("\u202f", " ") for cell in row[1:]] for row in found.numbers.cells}
    assert [row[:2] for row in there.values()] == [["25.0 %", "50.0 %"], ["–", "100 %"], ["3", "4"]]
    assert [row[2][:6] for row in there.values()] == ["12.5 %", "100 %,", ""]
    assert all(row[3] for row in list(there.values())[:2])
    of_one = [name for name in options(tab, "first") if name.startswith("one")]
    assert ask(tab, first=of_one[0], second=of_one[1]).numbers is None  # a report is of a run, not of a checkpoint


def test_a_fine_tuned_run_says_how_far_its_reward_came(on_page, fitted, tmp_path):
    run = shutil.copytree(fitted("moons"), tmp_path / "tuned")
    assert tuning_table(on_page(run)[0]) is None
    numbers = {"reward": 1.5, "reward_before": 1.0, "reward_tilted": 2.0, "kl": 0.3, "steps": 3}
    write_report(run, RunReport(title="tuned", numbers=numbers))
    found = tuning_table(on_page(run)[0])
    assert found.columns == ("metric", "value", "reference", "verdict", "meaning")
    assert [row[0] for row in found.cells] == [METRICS[name].label for name in ("reward", "reward_tilted", "kl")]
    assert found.cells[0][2].endswith("before")
    assert found.cells[0][3].startswith("50.0")
