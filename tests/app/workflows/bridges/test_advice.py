"""What is said of a bridge that is not good yet."""

import pathlib
import shlex
from dataclasses import replace

import pytest

from feller.app.workflows.bridges.advice import advice, bridge_sketch, falls_short, onward
from feller.app.workflows.bridges.bridge_run import Bridged, command_of
from feller.app.workflows.bridges.run_rounds import saved
from feller.control.bridges.bridge_config import Bridging
from feller.control.bridges.path_integral import PathIntegral
from feller.control.bridges.pinned_control import PinnedControl
from feller.core.run_folder import Run

HOW = Bridging()
TWO = Bridged(populations=("a", "b"), prints=("", ""), times=(0.0, 1.0), noise=1.0)
THREE = Bridged(populations=("a", "b", "c"), prints=("", "", ""), times=(0.0, 24.0, 72.0), noise=1.0)
GOOD = {"ess": 0.3, "w2": 1.4, "w2_floor": 1.0, "w2_24": 1.4, "w2_24_floor": 1.0}


def row(step: int, objective: float, w2: float) -> dict[str, float]:
    return {"step": step, "backward": step % 2 == 0, "objective": objective, "w2": w2}


def test_nothing_is_said_of_a_good_bridge() -> None:
    rows = [row(1, 10.0, 2.0), row(2, 9.0, 2.0), row(3, 8.0, 1.4)]
    assert advice(GOOD, rows, THREE, HOW) == ()
    assert advice({**GOOD, "w2_floor": None, "ess": None}, [], THREE, HOW) == ()


def test_few_trajectories_that_count_are_told_with_what_raises_them() -> None:
    (said,) = advice({**GOOD, "ess": 0.024}, [], THREE, HOW)
    assert "2.4\u202f% count: a larger --noise or a softer cost (a smaller NUMBER *)" in said
    assert "--resample 64" in said
    (said,) = advice({**GOOD, "ess": 0.024}, [], THREE, Bridging(resampling=PathIntegral(trajectories=64)))
    assert "--resample" not in said


def test_paths_far_from_a_population_between_are_told_with_what_brings_them_nearer() -> None:
    (said,) = advice({**GOOD, "w2_24": 3.0}, [], THREE, HOW)
    assert said.startswith("at time 24 paths are 3.00 times as far from real members")
    assert "--train.steps 3000" in said
    (said,) = advice({**GOOD, "w2": 2.0}, [], TWO, HOW)
    assert said.startswith("at the end paths are 2.00 times")


@pytest.mark.parametrize(
    ("last", "told"), [((12.0, 3.0), True), ((12.0, 2.0), False), ((9.0, 3.0), False), ((10.5, 2.1), False)]
)
def test_rounds_that_become_worse_are_told(last: tuple[float, float], told: bool) -> None:
    """Only beside rounds of the same direction, and where both numbers rise."""
    rows = [row(1, 10.0, 2.0), row(2, 1.0, 0.1), row(3, *last)]
    said = advice(GOOD, rows, TWO, HOW)
    assert bool(said) == told
    if told:
        assert said[0].startswith("from round 1 to round 3, both ahead, the objective rose from 10.0 to 12.0")
        assert "from 2.00 to 3.00" in said[0]


def test_one_round_is_a_first_sketch_and_so_are_rounds_of_few_steps() -> None:
    run = Run(pathlib.Path("runs/a b"))
    go_on = "go on with: feller bridge --resume --out 'runs/a b' --rounds 7"
    assert bridge_sketch(run, TWO, HOW, HOW, 1) == f"After 1 round this is a first sketch; {go_on}"
    assert bridge_sketch(run, TWO, HOW, HOW, 3) == ""
    short = Bridging(train=HOW.train.__class__(steps=100))
    said = bridge_sketch(run, TWO, short, HOW, 3)
    assert said == f"After 3 rounds of 100 steps this is a first sketch; {go_on} --train.steps 1500"
    assert advice({**GOOD, "w2": 2.0}, [], TWO, short, said) == ()  # the sketch says how to go on
    assert onward(run, TWO, short, HOW, 3, sketch=True)[0] in said
    own = Bridged(populations=("a", "b"), prints=("", ""), times=(0.0, 1.0), noise=1.0, costs=("mine.py:hill",))
    assert "--cost mine.py:hill" in shlex.join(shlex.split(bridge_sketch(run, own, HOW, HOW, 1)))
    assert bridge_sketch(run, TWO, HOW, HOW, 0) == ""


def test_a_bridge_of_few_pairs_is_made_anew_for_what_goes_on_keeps_them() -> None:
    run = Run(pathlib.Path("runs/a"))
    eight = Bridging(pairs=8, train=HOW.train.__class__(steps=2))
    said = bridge_sketch(run, TWO, eight, HOW, 1)
    assert said.startswith("After 1 round of 2 steps and 8 pairs this is a first sketch; what goes on keeps its pairs")
    assert said.endswith("feller bridge a b --rounds 7 --noise 1.0 --pairs 1024 --seed 0 --out runs/a-2")
    assert "of 8 pairs this" in bridge_sketch(run, TWO, Bridging(pairs=8), HOW, 7)


def test_there_is_one_next_step() -> None:
    run = Run(pathlib.Path("runs/a"))
    assert onward(run, TWO, HOW, HOW, 7)[0] == "feller bridge --resume --out runs/a --rounds 11"
    (said,) = advice({**GOOD, "w2": 2.0}, [], TWO, HOW)
    assert onward(run, TWO, HOW, HOW, 7, longer="--train.steps" in said)[0].endswith("--rounds 11 --train.steps 3000")
    assert falls_short({**GOOD, "w2": 2.0}, TWO) == ["at the end paths are 2.00 times"]
    assert falls_short(GOOD, TWO) == []


def test_a_new_one_has_nothing_of_the_sketch_that_makes_it_short() -> None:
    """Neither few steps of any kind nor a field twice; what else was set stays, and another folder is named."""
    run = Run(pathlib.Path("runs/a"))
    fields = ("--calls", "42", "--train.steps", "20", "--train.lr", "0.01", "--control.steps=20", "--train.lr", "0.002")
    asked = replace(TWO, fields=fields, costs=("mine.py:hill",))
    short = replace(HOW, pairs=8, calls=42, train=replace(HOW.train, steps=20), control=PinnedControl(steps=20))
    command, _ = onward(run, asked, short, HOW, 1, sketch=True)
    assert command == (
        "feller bridge a b --cost mine.py:hill --rounds 7 --noise 1.0 --pairs 1024 --train.lr 0.002 --seed 0"
        " --out runs/a-2"
    )
    command, _ = onward(run, TWO, replace(short, pairs=1024), HOW, 1, sketch=True)
    assert command.endswith(f"--rounds 7 --train.steps 1500 --control.steps {HOW.control.steps} --calls 210")


def test_a_bridge_of_minutes_is_made_again_by_its_rounds() -> None:
    timed = replace(HOW, rounds=None)
    command = command_of(replace(TWO, minutes=2.0), timed, pathlib.Path("run"), 5)
    assert "--rounds 5" in command
    assert "--minutes" not in command


def test_what_is_kept_of_rounds_is_said() -> None:
    assert saved(0, within=True) == "no round is done, so that nothing is kept and round 1 begins anew"
    assert saved(1, within=True) == "round 1 is saved, and round 2 begins anew"
    assert saved(3) == "3 rounds are saved"
