"""What is said of a model that had far less training than its recipe plans."""

import json
import pathlib
import shlex

import pytest

from feller.app.config import FitConfig
from feller.app.workflows.fine_tuned_run import TuningRecord
from feller.app.workflows.run_config import FitRecord, Provenance
from feller.app.workflows.run_status import (
    planned_training,
    read_undertrained_notice,
    undertrained_notice,
    undertrained_tuning_notice,
)
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.data.loading.dataset_reader import read
from feller.models.recipes.points import points
from tests.app.asked import run
from tests.errors import refuses
from tests.records import fit_record

RUN = Run(pathlib.Path("runs/a b"))


@pytest.fixture(scope="module")
def moons():
    return read("example:moons")


def asked(**more):
    return fit_record(data="example:moons", recipe="points", size="tiny", seed=0, **more)


def test_a_tenth_of_what_the_recipe_plans_is_enough(moons):
    minutes = points(moons, "tiny").train.minutes
    assert planned_training(asked(), moons).minutes == minutes
    assert undertrained_notice(RUN, asked(), moons, 500, 6.001 * minutes) == ""
    said = undertrained_notice(RUN, asked(), moons, 1200, 5.99 * minutes)
    assert said == (
        f"Undertrained (1,200 steps); resume with: feller fit --resume --out 'runs/a b' --minutes {minutes:g}"
    )


def test_time_that_made_few_steps_is_no_training(moons):
    minutes, rows = points(moons, "tiny").train.minutes, moons.total
    batch = points(moons, "tiny").train.batch_size
    said = undertrained_notice(RUN, asked(), moons, 16, 60 * minutes)
    assert said.startswith("Undertrained (16 steps)")
    assert float(said.rpartition(" ")[2]) > minutes  # as many again would be none
    enough = max(100, rows // batch + 1)
    assert undertrained_notice(RUN, asked(), moons, enough, 60 * minutes) == ""
    assert undertrained_notice(RUN, asked(), moons, 99, 60 * minutes)


def test_the_plan_is_that_of_the_size(moons):
    seconds = 6.5 * points(moons, "tiny").train.minutes
    assert points(moons, "base").train.minutes > points(moons, "tiny").train.minutes
    assert undertrained_notice(RUN, asked(), moons, 500, seconds) == ""
    assert undertrained_notice(RUN, asked().with_provenance(size="base"), moons, 500, seconds)


def test_own_code_and_recipes_for_other_data_plan_nothing(moons):
    assert undertrained_notice(RUN, asked().with_provenance(recipe="own.py:mine"), moons, 1, 0.1) == ""
    assert undertrained_notice(RUN, asked().with_provenance(recipe="images"), moons, 1, 0.1) == ""


@pytest.mark.parametrize(
    ("step", "reward", "said"),
    [
        (9, -0.6, "Undertrained (9 rounds); {} --steps 100"),
        (30, -2.77, "Undertrained (30 rounds, 8.1 % of the possible reward gain); {} --steps 100"),
        (150, -2.5, "Undertrained (150 rounds, 19.1 % of the possible reward gain); {} --steps 300"),
        (150, -3.5, "Undertrained (150 rounds, 0 % of the possible reward gain); {} --steps 300"),
        (30, -2.3, ""),
    ],
)
def test_tuning_far_from_its_reward_is_undertrained(step, reward, said):
    tuned = TuningRecord(base="runs/base", rewards=("mine.py:warm",), method="adjoint-matching")
    numbers = {"reward": reward, "reward_before": -2.97, "reward_tilted": -0.51}
    found = undertrained_tuning_notice(RUN, tuned, step, numbers).replace("\u202f", " ")
    command = "feller tune --resume --out 'runs/a b' --reward mine.py:warm"
    assert found == said.format(f"resume with: {command}")


def test_a_tuning_without_known_rewards_is_judged_by_its_rounds():
    tuned = TuningRecord(base="runs/base", rewards=("ink",), method="adjoint-matching")
    assert undertrained_tuning_notice(RUN, tuned, 10, {}) == ""
    assert undertrained_tuning_notice(RUN, tuned, 9, {"reward": 1.0, "reward_before": 1.0, "reward_tilted": 1.0})


@pytest.mark.slow
def test_notice_is_last_and_on_the_page_and_its_command_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    run("fit", "example:moons", "--size", "tiny", "--steps", 2, "--out", "run")
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()][-1]
    assert said.startswith("Undertrained (2 steps); resume with: feller fit --resume --out run --minutes ")
    assert said.partition(";")[0] in (folder / "report.html").read_text()
    assert json.loads((folder / "report.json").read_text())["sketch"] == said
    again = shlex.split(said.partition("resume with: feller ")[2])
    again[again.index("--minutes") :] = ["--steps"]  # the same command, but for how long
    run(*again, 3)
    assert read_undertrained_notice(Run(folder)).startswith("Undertrained (3 steps)")
    run(*again, 4, "--report", "none")
    assert read_undertrained_notice(Run(folder)) == ""  # the report is of fewer steps


def test_a_hash_of_code_without_its_file_is_damage():
    asked = FitRecord(config=FitConfig(), provenance=Provenance(recipe="flow", code="ab"))
    with refuses(InputError, argument="provenance.code"):
        assert asked.code_file
