"""Minimising without a gradient."""

import math

import pytest
import torch
from torch import Tensor

from feller.control.inverse.d_flow import Nothing, Radius, find_sources, solved
from feller.control.optimize.evolution import Evolution
from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.paths.processes import Characteristics
from feller.sampling import Euler
from feller.spaces import Euclidean, Sphere
from tests.oracle import F64, close

FLOW = solved(lambda rows: lambda x, t: Characteristics(x * 0 + 1), [0.0, 1.0], Euler(), Draws(0))
GOAL = torch.tensor([1.0, -0.5, 0.3, 0.0], dtype=F64)


def starts(n: int, d: int = 4, seed: int = 0) -> Tensor:
    return Draws(seed).at("source").normal((n, d), F64)


def test_it_finds_the_best_end_of_a_quadratic_wish() -> None:
    """Ends are sources plus 1, so the best source is the goal minus 1; no graph is made on the way."""

    def wish(x: Tensor, rows: Tensor) -> Tensor:
        assert not x.requires_grad
        assert not torch.is_grad_enabled()
        return (x - GOAL).square().sum(1)

    found = find_sources(FLOW, wish, starts(6), Euclidean((4,)), minimiser=Evolution(steps=150), prior=Nothing())
    close(found.source, (GOAL - 1).expand(6, 4), 1e-3)
    assert found.calls.tolist() == [1 + 150 * 16] * 6
    assert (found.loss <= found.before).all()


def test_it_climbs_steps() -> None:
    """A wish that is flat almost everywhere: the number of entries of the source below 1; from a plateau it goes on."""
    x_0 = -starts(6, 8).abs()

    def wish(x: Tensor, rows: Tensor) -> Tensor:
        return (x - 1 < 1).double().sum(1)

    search = Evolution(steps=200)
    found = find_sources(FLOW, wish, x_0, Euclidean((8,)), minimiser=search, prior=Nothing(), enough=0.0)
    assert found.before.tolist() == [8.0] * 6
    assert found.loss.tolist() == [0.0] * 6
    assert (found.calls < 200 * 16).any()  # who has enough stops
    with pytest.raises(InputError, match="has no gradient at the start"):
        find_sources(FLOW, wish, x_0, Euclidean((8,)))


def test_proposals_of_a_normal_law_are_normal() -> None:
    """With no wish every proposal is as good as another: what is kept of the first round is a draw of the law."""
    x_0 = starts(4000, 1)
    search = Evolution(steps=3, population=2, share=0.7)
    found = find_sources(FLOW, lambda x, rows: 0 * x[:, 0], x_0, Euclidean((1,)), minimiser=search, prior=Nothing())
    x = found.source[:, 0]
    assert (x != x_0[:, 0]).all()
    assert abs(x.mean()) < 4 / math.sqrt(4000)
    assert abs(x.square().mean() - 1) < 4 * math.sqrt(2 / 4000)
    assert (
        abs(torch.corrcoef(torch.stack([x, x_0[:, 0]]))[0, 1]) < 0.51
    )  # each round keeps sqrt(1 - s^2) = 0.71 or less


def test_it_does_not_depend_on_the_batch() -> None:
    def wish(x: Tensor, rows: Tensor) -> Tensor:
        return (x[:, 0] - rows.double()).abs()

    x_0 = starts(5)
    whole = find_sources(FLOW, wish, x_0, Euclidean((4,)), minimiser=Evolution(steps=20))
    alone = find_sources(
        FLOW,
        lambda x, rows: wish(x, rows + 3),
        x_0[3:4],
        Euclidean((4,)),
        minimiser=Evolution(steps=20, draws=Draws(0, first=3)),
    )
    torch.testing.assert_close(alone.source, whole.source[3:4], rtol=1e-12, atol=1e-12)
    assert alone.calls[0] == whole.calls[3]


def test_who_stops_changes_nothing_for_others() -> None:
    def wish(x: Tensor, rows: Tensor) -> Tensor:
        return (x - GOAL).square().sum(1)

    apart = Evolution(steps=30)
    free = find_sources(FLOW, wish, starts(4), Euclidean((4,)), minimiser=apart)
    limits = torch.tensor([1e9, -1.0, 1e9, -1.0])
    some = find_sources(FLOW, wish, starts(4), Euclidean((4,)), minimiser=apart, enough=limits)
    assert torch.equal(some.source[[0, 2]], starts(4)[[0, 2]])
    torch.testing.assert_close(some.source[[1, 3]], free.source[[1, 3]], rtol=1e-12, atol=1e-12)


def test_values_without_a_number_are_passed_by() -> None:
    def wish(x: Tensor, rows: Tensor) -> Tensor:
        return torch.where(x[:, 0] < 1.5, (x[:, 0] - 1.4).abs(), torch.nan)

    x_0 = starts(4).clamp(max=0)
    found = find_sources(FLOW, wish, x_0, Euclidean((4,)), minimiser=Evolution(steps=60))
    assert (found.loss < 0.01).all()


def test_with_a_prior_and_on_a_sphere() -> None:
    far = find_sources(
        FLOW, lambda x, rows: -x[:, 0], starts(3), Euclidean((4,)), minimiser=Evolution(), prior=Radius(10.0)
    )
    assert (far.source.square().sum(1) < 8).all()  # without the prior it would go on
    space, goal = Sphere(2), torch.tensor([0.0, 0.0, 1.0], dtype=F64)
    still = solved(lambda rows: lambda x, t: Characteristics(x * 0), [0.0, 1.0], Euler(space), Draws(0))
    found = find_sources(
        still, lambda x, rows: 1 - x @ goal, space.project(starts(3, 3)), space, minimiser=Evolution(steps=60)
    )
    close(found.source.norm(dim=1), (1.0,) * 3, 1e-12)
    assert found.loss.max() < 1e-3


def test_numbers_out_of_range() -> None:
    for make in (lambda: Evolution(steps=0), lambda: Evolution(population=0), lambda: Evolution(share=1.5)):
        with pytest.raises(UsageError, match="expected"):
            make()
