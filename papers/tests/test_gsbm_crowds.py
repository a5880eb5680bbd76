"""Claims about crowds: plain bridges cost what the reference says, and verdicts follow from the figures."""

from dataclasses import replace

import pytest
import torch

from feller.core.rng import Rng
from feller_papers.claims import FAILS, HOLDS
from feller_papers.gsbm import crowds
from feller_papers.gsbm.crowds import GMM, STUNNEL, VNECK, Crowd, Reached
from feller_papers.gsbm.setting import Effort, Setting

SETTING = Setting(seeds=(0, 1), crowd=Effort(2, pairs=48, control=4, steps=4))
FINE = Reached(
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
def test_plain_bridges_cost_what_the_reference_says(crowd: Crowd, paper: float) -> None:
    """1,000 paths: the standard error is about 1 %."""
    assert crowds.plain(crowd, 0).averages()["objective"] == pytest.approx(paper, rel=0.04)


@pytest.mark.slow
def test_a_short_run_is_measured_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "FOLLOWED", 100)
    monkeypatch.setattr(crowds, "FRESH", 200)
    found = crowds.crossed(SETTING, STUNNEL, 0)
    assert len(found) == 2
    for one in found:
        assert one.control > 200  # no way is shorter than the straight one
        assert one.objective == one.control + one.state
        assert one.sinkhorn_floor < 0.2
        assert one.w2 > 0.05


def test_trajectories_that_stand_still_cost_nothing_and_arrive_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "FOLLOWED", 100)
    monkeypatch.setattr(crowds, "FRESH", 200)
    problem = replace(STUNNEL.make(), noise=0.0)
    for backward in (False, True):
        walked = crowds.follow(problem, lambda x, t: torch.zeros_like(x), Rng(0), backward)
        assert walked.states.shape == (100, 211, 2)
        found = crowds.reached(problem, walked, Rng(0), 1.0, backward=backward)
        assert found.control == 0
        assert found.w2 == pytest.approx((22**2 + 2**2) ** 0.5, rel=0.01)
        assert found.inside_paths == 0


def test_crowds_whose_density_costs_come_in_groups() -> None:
    assert crowds.settings(VNECK, SETTING.crowd).control.chunk_size == 256
    assert crowds.settings(STUNNEL, SETTING.crowd).control.chunk_size is None
    assert crowds.settings(VNECK, Effort(9)).rounds == 3


def test_ends_must_be_met_in_every_round_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts(*sinkhorn: float) -> list[str]:
        found = tuple(replace(FINE, sinkhorn=one) for one in sinkhorn)
        monkeypatch.setattr(crowds, "crossed", lambda setting, crowd, seed: found)
        return [claim.verdict for claim in crowds.ends_are_met(SETTING)]

    assert verdicts(0.15, 0.05, 0.008) == [HOLDS, HOLDS, HOLDS]
    assert verdicts(0.15, 0.07, 0.008)[0] == FAILS
    assert verdicts(0.25, 0.05, 0.008)[0] == FAILS
    assert verdicts(0.15, 0.05, 0.02) == [HOLDS, FAILS, HOLDS]
    assert verdicts(0.15, 0.05, 4.2)[2] == FAILS


def test_what_is_logged_must_be_low(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(**others: float) -> str:
        late = replace(FINE, **others)
        found = (replace(FINE, control=900.0), FINE, FINE, FINE, late)
        monkeypatch.setattr(crowds, "crossed", lambda setting, crowd, seed: found)
        return next(crowds.less_than_plain(SETTING)).verdict

    assert verdict() == HOLDS
    assert verdict(state=80.0) == HOLDS
    assert verdict(logged=471.0) == FAILS


def test_losses_are_compared_by_cost_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(state: float, slower: float) -> str:
        monkeypatch.setattr(
            crowds,
            "crossed",
            lambda setting, crowd, seed, implicit=False: (replace(FINE, state=state) if implicit else FINE,),
        )
        monkeypatch.setattr(crowds, "seconds_of_a_step", lambda setting: (0.01, 0.01 * slower))
        return crowds.both_losses(SETTING)[0].verdict

    assert [verdict(55.0, 3.0), verdict(65.0, 3.0), verdict(55.0, 1.5)] == [HOLDS, FAILS, FAILS]


def test_the_implicit_loss_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "TIMED", 8)
    explicit, implicit = crowds.seconds_of_a_step(SETTING)
    assert 0 < explicit < implicit
