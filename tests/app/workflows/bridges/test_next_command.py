"""How to go on with a bridge."""

import pathlib
import shlex
from dataclasses import replace

from feller.app.workflows.bridges.bridge_run import BridgeRecord, bridge_command
from feller.app.workflows.bridges.next_command import suggest_command, undertrained_bridge_notice
from feller.app.workflows.bridges.run_rounds import saved_text
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ConditionalControl
from feller.core.run_folder import Run

HOW = BridgeSolverConfig()
TWO = BridgeRecord(populations=("a", "b"), prints=("", ""), times=(0.0, 1.0), noise=1.0)
THREE = BridgeRecord(populations=("a", "b", "c"), prints=("", "", ""), times=(0.0, 24.0, 72.0), noise=1.0)


def test_one_round_is_a_first_sketch_and_so_are_rounds_of_few_steps():
    run = Run(pathlib.Path("runs/a b"))
    go_on = "resume with: feller bridge --resume --out 'runs/a b' --rounds 7"
    assert undertrained_bridge_notice(run, TWO, HOW, HOW, 1) == f"Undertrained (1 round); {go_on}"
    assert undertrained_bridge_notice(run, TWO, HOW, HOW, 3) == ""
    short = BridgeSolverConfig(train=HOW.train.__class__(steps=100))
    said = undertrained_bridge_notice(run, TWO, short, HOW, 3)
    assert said == f"Undertrained (3 rounds of 100 steps); {go_on} --train.steps 1500"
    assert suggest_command(run, TWO, short, HOW, 3, is_undertrained=True)[0] in said
    own = BridgeRecord(populations=("a", "b"), prints=("", ""), times=(0.0, 1.0), noise=1.0, costs=("mine.py:hill",))
    assert "--cost mine.py:hill" in shlex.join(shlex.split(undertrained_bridge_notice(run, own, HOW, HOW, 1)))
    assert undertrained_bridge_notice(run, TWO, HOW, HOW, 0) == ""


def test_a_bridge_of_few_pairs_is_made_anew_for_what_goes_on_keeps_them():
    run = Run(pathlib.Path("runs/a"))
    eight = BridgeSolverConfig(pairs=8, train=HOW.train.__class__(steps=2))
    said = undertrained_bridge_notice(run, TWO, eight, HOW, 1)
    assert said.startswith("Undertrained (1 round of 2 steps and 8 pairs)")
    assert said.endswith("feller bridge a b --rounds 7 --noise 1.0 --pairs 1024 --seed 0 --out runs/a-2")
    assert "of 8 pairs)" in undertrained_bridge_notice(run, TWO, BridgeSolverConfig(pairs=8), HOW, 7)


def test_there_is_one_next_step():
    run = Run(pathlib.Path("runs/a"))
    assert suggest_command(run, TWO, HOW, HOW, 7)[0] == "feller bridge --resume --out runs/a --rounds 11"
    assert suggest_command(run, TWO, HOW, HOW, 7, needs_longer_rounds=True)[0].endswith(
        "--rounds 11 --train.steps 3000"
    )


def test_a_new_one_has_nothing_of_the_sketch_that_makes_it_short():
    """Neither few steps of any kind nor a field twice; what else was set stays, and another folder is named."""
    run = Run(pathlib.Path("runs/a"))
    fields = ("--nfe", "42", "--train.steps", "20", "--train.lr", "0.01", "--control.steps=20", "--train.lr", "0.002")
    asked = replace(TWO, fields=fields, costs=("mine.py:hill",))
    short = replace(HOW, pairs=8, nfe=42, train=replace(HOW.train, steps=20), control=ConditionalControl(steps=20))
    command, _ = suggest_command(run, asked, short, HOW, 1, is_undertrained=True)
    assert command == (
        "feller bridge a b --cost mine.py:hill --rounds 7 --noise 1.0 --pairs 1024 --train.lr 0.002 --seed 0"
        " --out runs/a-2"
    )
    command, _ = suggest_command(run, TWO, replace(short, pairs=1024), HOW, 1, is_undertrained=True)
    assert command.endswith(f"--rounds 7 --train.steps 1500 --control.steps {HOW.control.steps} --nfe 210")


def test_a_bridge_of_minutes_is_made_again_by_its_rounds():
    timed = replace(HOW, rounds=None)
    command = bridge_command(replace(TWO, minutes=2.0), timed, pathlib.Path("run"), 5)
    assert "--rounds 5" in command
    assert "--minutes" not in command


def test_what_is_kept_of_rounds_is_said():
    assert saved_text(0, is_interrupted=True) == "no round is complete, so nothing is saved and round 1 starts again"
    assert saved_text(1, is_interrupted=True) == "round 1 is saved, and round 2 starts again"
    assert saved_text(3) == "3 rounds are saved"
