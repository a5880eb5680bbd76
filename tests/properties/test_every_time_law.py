"""Properties of every time distribution."""

import itertools
import math

import pytest
import torch

from feller.core.rng import Rng
from feller.paths.time_distributions import Stratified, TimeDistribution
from tests.oracle import F64, close
from tests.properties.examples import Case, cases

LAWS = cases(TimeDistribution)


@pytest.mark.parametrize("case", LAWS)
def test_quantiles_increase_within_the_unit_interval(case: Case) -> None:
    u = torch.linspace(0, 1, 1001, dtype=F64)
    t = case.kind.quantile(u)
    assert (t.diff() >= 0).all()
    assert (t[1:-1].diff() > 0).all()
    assert t.min() >= 0
    assert t.max() <= 1


@pytest.mark.parametrize("case", LAWS)
def test_samples_have_their_distribution(case: Case) -> None:
    """20,000 times against the quantiles at 19 levels: false alarm 1e-6 (Dvoretzky, Kiefer, Wolfowitz)."""
    n = 20_000
    t = case.kind(n, Rng(0).stream("time"))
    levels = torch.linspace(0.05, 0.95, 19, dtype=F64)
    below = (t[:, None].double() <= case.kind.quantile(levels)).double().mean(0)
    assert t.shape == (n,)
    assert t.dtype == torch.float32
    assert (below - levels).abs().max() < math.sqrt(math.log(2 / 1e-6) / (2 * n))


@pytest.mark.parametrize("total", [None, 300])
@pytest.mark.parametrize("case", LAWS)
def test_samples_do_not_depend_on_the_number_of_ranks(case: Case, total: int | None) -> None:
    """Three ranks that know the size of the whole batch draw what one would; a comb has to know it.

    To one rounding: torch's sigmoid rounds by the place of a number in memory.
    """
    if isinstance(case.kind, Stratified) and total is None:
        pytest.skip("a comb needs the size of the whole batch")
    whole = case.kind(300, Rng(0, global_batch_size=total).stream("time"))
    parts = [case.kind(100, Rng(0, first, total).stream("time")) for first in (0, 100, 200)]
    close(torch.cat(parts), whole, 1.2e-7)


@pytest.mark.parametrize("case", LAWS)
def test_samples_of_steps_differ(case: Case) -> None:
    times = [case.kind(8, Rng(0).stream("time", step)) for step in range(3)]
    assert not torch.equal(times[0], times[1])
    assert not torch.equal(times[1], times[2])


@pytest.mark.parametrize("steps", [1, 2, 10, 49])
@pytest.mark.parametrize("case", LAWS)
def test_grids(case: Case, steps: int) -> None:
    grid = case.kind.grid(steps)
    assert len(grid) == steps + 1
    assert (grid[0], grid[-1]) == (0.0, 1.0)
    assert all(a < b for a, b in itertools.pairwise(grid))


@pytest.mark.parametrize("case", LAWS)
def test_dtype_is_kept(case: Case) -> None:
    for dtype in (torch.float32, F64):
        assert case.kind.quantile(torch.tensor([0.2, 0.7], dtype=dtype)).dtype == dtype
