"""Where paths leave a surface, and who divides, with known answers."""

import numpy as np
import pytest
import torch

from feller.app.workflows.bridges.bridge_detection import BRIDGE_KEY, refuse_bridge
from feller.app.workflows.bridges.bridge_report import counts_of, growth_notes, outside_fraction
from feller.app.workflows.bridges.bridge_run import BridgeRecord
from feller.app.workflows.bridges.parse_costs import parse_costs
from feller.app.workflows.bridges.populations import read_populations
from feller.control.bridges.population import Population
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.trajectories import Trajectories
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from tests.errors import refuses


@pytest.fixture
def hill(tmp_path, monkeypatch):
    """A level square of 41 x 41 points, and two populations on it."""
    monkeypatch.chdir(tmp_path)
    x, y = np.meshgrid(np.linspace(0, 10, 41), np.linspace(0, 10, 41))
    ends = np.random.default_rng(0).normal(5, 0.5, (2, 20, 3))
    for name, rows in {"square": np.stack([x, y, x], -1).reshape(-1, 3), "a": ends[0], "b": ends[1]}.items():
        np.savetxt(f"{name}.csv", rows, delimiter=",", header="x,y,z", comments="")
    return read_populations(["a.csv", "b.csv"])


def asked(**others):
    return BridgeRecord(populations=("a", "b"), prints=("", ""), times=(0.0, 1.0), noise=1.0, **others)  # type: ignore


def test_the_time_outside_of_a_surface(hill):
    """Of two paths one leaves the square after half of the way; its height does not matter."""
    times = tuple(np.linspace(0, 1, 101).tolist())
    x = torch.linspace(0, 20, 101)
    still, away = torch.full((101, 3), 5.0), torch.stack([x, torch.full_like(x, 5), 99 + x], 1)
    states = torch.stack([still, away])
    walked = Trajectories(times, states, states, 0)
    assert outside_fraction(asked(costs=("valleys=square.csv",)), hill, walked) == pytest.approx(0.25, abs=0.03)
    assert outside_fraction(asked(), hill, walked) is None


def test_how_many_points_were_read_is_said(hill):
    assert "the surface square.csv has 1,681 points" in parse_costs(["valleys=square.csv"], hill)[1]


def test_who_divides_and_who_dies():
    weights = torch.tensor([5.0, 1, 1, 0.4, 0.6])
    crowd = Population(torch.zeros(5, 2), weights)
    counts = counts_of(BridgeProblem(((crowd, Population(torch.zeros(5, 2), weights)),), 1.0))
    assert counts[0][0].tolist() == pytest.approx([25 / 8, 5 / 8, 5 / 8, 2 / 8, 3 / 8])
    (said,) = growth_notes(counts, asked())
    assert "20.0\u202f% of the samples of a have at least twice the mean weight" in said
    assert "40.0\u202f% less than half" in said
    alike = Population(torch.zeros(5, 2))
    assert not counts_of(BridgeProblem(((alike, alike),), 1.0))


def test_bridges_are_refused_with_what_they_can_do(tmp_path):
    run = Run(tmp_path)
    run.write_record(run.recipe, {BRIDGE_KEY: {}})
    with refuses(UsageError, file=str(tmp_path)):
        refuse_bridge(run, "tuned")
