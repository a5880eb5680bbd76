"""Claims about crowds: plain bridges cost what the reference says, and verdicts follow from the figures."""

from dataclasses import replace

import pytest
import torch

from feller.core.rng import Rng
from feller_papers.claims import FAILS, HOLDS
from feller_papers.gsbm import crowds
from feller_papers.gsbm.crowds import GMM, STUNNEL, VNECK, CrowdProblem, RoundMetrics
from feller_papers.gsbm.setting import Budget, Setting

SETTING = Setting(seeds=(0, 1), crowd=Budget(2, pairs=48, control_steps=4, steps=4))
FINE = RoundMetrics(
    control=400.0,
    state=50.0,
    logged=430.0,
    sinkhorn=0.02,
    sinkhorn_floor=0.01,
    w2=0.2,
    w2_floor=0.14,
    inside_time=0.001,
    inside_paths=0.01,
    seconds=30.0,
)


@pytest.mark.slow
@pytest.mark.parametrize(("crowd", "paper"), [(STUNNEL, 18_423.0), (VNECK, 237.0), (GMM, 2_708.0)])
def test_plain_bridges_cost_what_the_reference_says(crowd: CrowdProblem, paper: float) -> None:
    """1,000 paths: the standard error is about 1 %."""
    assert crowds.plain_bridge_costs(crowd, 0).averages()["objective"] == pytest.approx(paper, rel=0.04)


@pytest.mark.slow
def test_a_short_run_is_measured_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "NUM_TRAJECTORIES", 100)
    monkeypatch.setattr(crowds, "NUM_FRESH", 200)
    rounds = crowds.solve_rounds(SETTING, STUNNEL, 0)
    assert len(rounds) == 2
    for metrics in rounds:
        assert metrics.control > 200  # the energy of straight paths
        assert metrics.objective == metrics.control + metrics.state
        assert metrics.sinkhorn_floor < 0.2
        assert metrics.w2 > 0.05


def test_a_zero_drift_costs_nothing_and_does_not_reach_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "NUM_TRAJECTORIES", 100)
    monkeypatch.setattr(crowds, "NUM_FRESH", 200)
    problem = replace(STUNNEL.make(), noise=0.0)
    for backward in (False, True):
        trajectories = crowds.simulate_fresh(problem, lambda x, t: torch.zeros_like(x), Rng(0), backward)
        assert trajectories.states.shape == (100, 211, 2)
        rounds = crowds.measure_round(problem, trajectories, Rng(0), 1.0, backward=backward)
        assert rounds.control == 0
        assert rounds.w2 == pytest.approx((22**2 + 2**2) ** 0.5, rel=0.01)
        assert rounds.inside_paths == 0


def test_density_costs_are_optimised_in_chunks() -> None:
    assert crowds.solver_config(VNECK, SETTING.crowd).control.chunk_size == 256
    assert crowds.solver_config(STUNNEL, SETTING.crowd).control.chunk_size is None
    assert crowds.solver_config(VNECK, Budget(9)).rounds == 3


def test_ends_must_be_met_in_every_round_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts(*sinkhorn: float) -> list[str]:
        rounds = tuple(replace(FINE, sinkhorn=metrics) for metrics in sinkhorn)
        monkeypatch.setattr(crowds, "solve_rounds", lambda setting, crowd, seed: rounds)
        return [claim.verdict for claim in crowds.ends_are_met(SETTING)]

    assert verdicts(0.15, 0.05, 0.008) == [HOLDS, HOLDS, HOLDS]
    assert verdicts(0.15, 0.07, 0.008)[0] == FAILS
    assert verdicts(0.25, 0.05, 0.008)[0] == FAILS
    assert verdicts(0.15, 0.05, 0.02) == [HOLDS, FAILS, HOLDS]
    assert verdicts(0.15, 0.05, 4.2)[2] == FAILS


def test_what_is_logged_must_be_low(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(**others: float) -> str:
        late = replace(FINE, **others)
        rounds = (replace(FINE, control=900.0), FINE, FINE, FINE, late)
        monkeypatch.setattr(crowds, "solve_rounds", lambda setting, crowd, seed: rounds)
        return next(crowds.less_than_plain(SETTING)).verdict

    assert verdict() == HOLDS
    assert verdict(state=80.0) == HOLDS
    assert verdict(logged=471.0) == FAILS


def test_losses_are_compared_by_cost_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(state: float, slower: float) -> str:
        monkeypatch.setattr(
            crowds,
            "solve_rounds",
            lambda setting, crowd, seed, implicit=False: (replace(FINE, state=state) if implicit else FINE,),
        )
        monkeypatch.setattr(crowds, "seconds_per_step", lambda setting: (0.01, 0.01 * slower))
        return crowds.both_losses(SETTING)[0].verdict

    assert [verdict(55.0, 3.0), verdict(65.0, 3.0), verdict(55.0, 1.5)] == [HOLDS, FAILS, FAILS]


def test_the_implicit_loss_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "TIMED_STEPS", 8)
    explicit, implicit = crowds.seconds_per_step(SETTING)
    assert 0 < explicit < implicit
