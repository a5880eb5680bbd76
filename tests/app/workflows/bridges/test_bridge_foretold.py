"""How long a bridge is said to take, with rounds whose time is known."""

from dataclasses import replace

import pytest
import torch

from feller.app.workflows.bridges import run_rounds
from feller.app.workflows.bridges.run_rounds import foretold_bridge
from feller.control.bridges.bridge_config import Bridging
from feller.control.bridges.pinned_control import PinnedControl
from feller.control.bridges.problem import BridgeProblem
from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.training.engine import engine
from feller.training.optimizer import Training

PATH, LINEAR, MATCH, WALK = 0.5, 2.0, 0.1, 3.0
"""Seconds: of a step of looking for paths, before matching, of a step of matching, of walks."""


class Machine:
    """A clock, and rounds that take the time that they take; the first step of all is slower."""

    def __init__(self):
        self.now, self.tried = 0.0, []

    def __call__(self):
        return self.now

    def rounds(self, problem, how, progress, draws, engine, *, tell):
        self.tried.append((how.control.steps, how.train.steps))
        self.now += 7.0
        for leg in range(len(problem.crowds)):
            for step in range(how.control.steps):
                self.now += PATH
                tell(0.3 * (leg + step / how.control.steps), "pinned paths")
        self.now += LINEAR + MATCH * how.train.steps
        tell(0.9, "loss 1.2")
        tell(0.9, "new pairs")
        self.now += WALK
        tell(1.0, "done")
        yield None


@pytest.fixture
def machine(monkeypatch):
    here = Machine()
    monkeypatch.setattr(run_rounds, "rounds", here.rounds)
    return here


def problem(populations):
    return BridgeProblem.between([torch.zeros(4, 2) + k for k in range(populations)], noise=1.0)


def told(machine, populations, done=0, **settings):
    how = replace(Bridging(control=PinnedControl(steps=200)), **settings)
    return foretold_bridge(problem(populations), how, done, lambda how: None, Draws(0), engine(), machine)


@pytest.mark.parametrize(("populations", "done"), [(2, 0), (3, 0), (2, 4)])
def test_all_rounds_are_told_by_the_steps_of_two(machine, populations, done):
    steps, legs = 1500, populations - 1
    whole = (7 - done) * (legs * 200 * PATH + LINEAR + steps * MATCH + WALK)
    words = (
        f"about {float(f'{whole / 60:.2g}'):g} minutes for {7 - done} rounds on this machine, and the report after them"
    )
    assert told(machine, populations, done) == words
    assert machine.tried == [(3, 3), (3, 28)]


@pytest.mark.parametrize(("done", "room", "fit"), [(0, 3.5, "3 rounds"), (0, 0.1, "1 round"), (2, 2.9, "1 round")])
def test_how_many_rounds_fit_into_minutes_is_told(machine, done, room, fit):
    """An odd number in all, for the last goes ahead."""
    whole = 200 * PATH + LINEAR + 1500 * MATCH + WALK
    how = Bridging(control=PinnedControl(steps=200), rounds=None)
    said = foretold_bridge(problem(2), how, done, lambda how: None, Draws(0), engine(), machine, room=room * whole)
    assert said == f"about 4.2 minutes for a round on this machine, so that {fit} fit, and the report after them"


def test_a_trial_whose_trajectories_run_away_tells_nothing(machine, monkeypatch):
    def refuse(*args, **named):
        raise InputError("trajectories ran away")

    monkeypatch.setattr(run_rounds, "rounds", refuse)
    assert told(machine, 2) is None


def test_short_bridges_are_not_tried(machine):
    few = Training(batch=32, steps=50)
    assert told(machine, 2, train=few) is None
    assert told(machine, 2, rounds=None) is None
    assert told(machine, 2, control=PinnedControl(steps=3)) is None
    assert machine.tried == []
