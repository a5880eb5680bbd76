"""The state of a run, from the files of its folder."""

import json
import os
import pathlib
import shutil
from collections.abc import Callable

import pytest

from feller.app.webui.loaded_run import load_runs
from feller.app.webui.run_state import Phase, holds_fit, read_state
from feller.app.workflows.run_status import ReportSummary
from feller.core.run_folder import Run
from feller.evaluation.report.report_page import RunReport, write_report

Fitted = Callable[[str], pathlib.Path]


@pytest.fixture
def begun(fitted, tmp_path):
    """Return a run of 140 planned steps before its first step."""
    folder = tmp_path / "begun"
    folder.mkdir()
    for name in ("model.json", "recipe.json"):
        shutil.copy(fitted("moons") / name, folder / name)
    plan(folder, steps=140)
    return load_runs([Run(folder)])[0]


def plan(folder, **budget):
    record = json.loads((folder / "recipe.json").read_text())
    record["recipe"]["train"] |= {"steps": None, "minutes": None, **budget}
    (folder / "recipe.json").write_text(json.dumps(record))


def log(run, *steps):
    lines = [{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": float(step)} for step in steps]
    run.run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3')


def save(run, step):
    run.run.progress.write_text(json.dumps({"step": step, "seconds": float(step)}))


def report(run, step):
    write_report(
        run.run.path, RunReport(title="a", numbers={"energy": 0.5, "energy_floor": 0.4, "n": 9, "steps": step})
    )


def in_fit(run):
    """Return the state while a fit holds the lock."""
    with run.run.lock():
        os.utime(run.run.recipe)
        return read_state(run)


def in_other_command(run):
    with run.run.lock():
        return read_state(run)


def test_phases_from_the_first_step_to_the_report(begun, fitted):
    phases = [in_fit(begun).phase]
    log(begun, 1, 10, 20)
    save(begun, 10)
    state = in_fit(begun)
    phases.append(state.phase)
    assert (state.step, state.steps, state.has_weights, state.loss) == (20, 140, False, 0.05)
    assert (state.fraction, state.seconds_left) == (pytest.approx(20 / 140), pytest.approx(120))
    assert "20 of 140" in state.text
    shutil.copy(fitted("moons") / "average.safetensors", begun.run.path)
    log(begun, 1, 70, 140)
    save(begun, 140)
    phases.append(in_fit(begun).phase)
    report(begun, 140)
    state = read_state(begun)
    assert [*phases, state.phase] == [Phase.STARTING, Phase.TRAINING, Phase.REPORTING, Phase.REPORTED]
    assert state.is_final
    assert state.has_weights
    assert state.report.verdict.startswith("Fair")
    assert state.report.cautions
    assert state.reporting == ""


def test_progress_of_a_time_limit(begun):
    plan(begun.run.path, minutes=2.0)
    log(begun, 1, 30)
    state = in_fit(begun)
    assert (state.fraction, state.steps, state.seconds_left) == (pytest.approx(0.25), None, pytest.approx(90))


def test_run_without_a_process(begun):
    log(begun, 1, 20)
    save(begun, 20)
    state = read_state(begun)
    assert (state.phase, state.is_final) == (Phase.STOPPED, False)
    assert state.resume.endswith("--resume --out begun")
    save(begun, 140)
    state = read_state(begun)
    assert state.phase is Phase.UNREPORTED
    assert "feller evaluate begun" in state.reporting


def test_run_locked_by_another_command(begun):
    log(begun, 1, 20)
    save(begun, 20)
    os.utime(begun.run.recipe, (1, 1))
    state = in_other_command(begun)
    assert (state.phase, state.resume) == (Phase.STOPPED, "")
    assert not holds_fit(begun.run)
    save(begun, 140)
    assert in_other_command(begun).phase is Phase.REPORTING
    report(begun, 140)
    assert in_other_command(begun).phase is Phase.REPORTED


def test_report_of_another_step(begun):
    save(begun, 140)
    report(begun, 100)
    state = read_state(begun)
    assert (state.phase, state.report) == (Phase.UNREPORTED, ReportSummary())
    plan(begun.run.path, steps=280)
    report(begun, 140)
    state = read_state(begun)
    assert state.phase is Phase.REPORTED  # of a training that was stopped, and evaluated
    assert "140 of 280" in state.html
    state = in_fit(begun)
    assert (state.phase, state.report) == (Phase.TRAINING, ReportSummary())


@pytest.mark.parametrize("content", ["{", '{"verdict": 1}', '{"cautions": "x"}'])
def test_damaged_report(begun, content):
    save(begun, 140)
    report(begun, 140)
    (begun.run.path / "report.json").write_text(content)
    assert read_state(begun).phase is Phase.UNREPORTED


@pytest.mark.parametrize(
    ("counters", "metrics"),
    [
        ('{"step": "many"}', "[]\n{}\n"),
        ('{"step": NaN, "seconds": NaN}', '{"step": "2"}\n'),
        ('{"step": 0.5, "seconds": Infinity}', '{"step": true, "loss": "x"}\n'),
    ],
)
def test_damaged_counters_and_metrics(begun, counters, metrics):
    begun.run.progress.write_text(counters)
    begun.run.metrics.write_text(metrics)
    assert in_fit(begun).phase is Phase.STARTING
    assert read_state(begun).phase is Phase.STOPPED
    begun.run.metrics.write_text('{"step": 7, "loss": "x", "seconds": NaN}\n')
    state = in_fit(begun)
    assert (state.step, state.loss, state.seconds_left) == (7, None, None)
    assert state.html


def test_rounds_of_a_bridge(bridged, tmp_path):
    shutil.copytree(bridged, tmp_path / "bridge")
    run = load_runs([Run(tmp_path / "bridge")])[0]
    state = read_state(run)
    assert (state.phase, state.unit, state.step, state.steps) == (Phase.UNREPORTED, "round", 3, 3)
    counters = json.loads(run.run.progress.read_text())
    run.run.progress.write_text(json.dumps(counters | {"rounds": 1}))
    run.run.metrics.write_text('{"step": 1, "seconds": 4.0}\n')
    state = in_fit(run)
    assert (state.phase, state.step, state.fraction) == (Phase.TRAINING, 1, pytest.approx(1 / 3))


def test_header_is_escaped_and_without_folders(begun):
    save(begun, 140)
    numbers = {"energy": 0.5, "energy_floor": 0.4, "steps": 140}
    write_report(begun.run.path, RunReport(title="a", numbers=numbers, sketch="<b>resume</b> --out /srv/secret/run"))
    header = read_state(begun).html
    assert "<b>" not in header
    assert "secret" not in header
    assert 'class="verdict undertrained"' in header
