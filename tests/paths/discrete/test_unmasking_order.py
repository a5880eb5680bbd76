"""Orders of unmasking."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import ConfidenceOrder, EntropyOrder, LogOddsCorrector, Mixture, UnmaskingOrder
from feller.paths.discrete.token_schedules import KineticOptimalPerToken
from feller.paths.processes import superpose
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, trajectory
from feller.spaces import MaskSource, UniformSource
from tests.errors import refuses
from tests.oracle import F64, f64

SURE = torch.linspace(0, 6, 8)
"""How sure the network is of each of 8 tokens, the last most."""


def network(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
    logits = torch.zeros(*x.shape, 3)
    logits[..., 1] = SURE
    return logits


def reveal(order: UnmaskingOrder | None, steps: int, examples: int = 4) -> list[Tensor]:
    """Return where tokens are revealed after each step."""
    x = torch.full((examples, 8), 3)
    process = Mixture(source=MaskSource(), unmasking_order=order).process(network, {})
    return [state != 3 for state in trajectory(process, x, linear_grid(steps), Euler(), Rng(0))]


@pytest.mark.parametrize("order", [ConfidenceOrder(0.0), EntropyOrder()], ids=repr)
def test_confident_tokens_are_unmasked_first(order: UnmaskingOrder) -> None:
    """Two of eight at each of four steps; by entropy those at the end, by confidence those whose draw is likely."""
    states = reveal(order, 4)
    assert [int(state.sum()) for state in states] == [8, 16, 24, 32]
    if isinstance(order, EntropyOrder):
        for i, state in enumerate(states, 1):
            assert state[:, 8 - 2 * i :].all()
    else:
        assert states[1][:, 4:].sum() > states[1][:, :4].sum()


def test_infinite_noise_gives_a_random_order() -> None:
    """Infinite noise reveals each token as often as any other: 4,000 examples, half the tokens; false alarm 5e-6."""
    shown = reveal(ConfidenceOrder(math.inf), 2, 4000)[0].double().mean(0)
    assert ((shown - 0.5).abs() < 5 * math.sqrt(0.25 / 4000)).all()


def test_number_of_unmasked_tokens_follows_the_schedule() -> None:
    """Of 8 tokens 8 / 3 by a third of the time: 2 or 3 in each example; mean within 5 errors (6e-7)."""
    counts = reveal(EntropyOrder(), 3, 4000)[0].sum(1).double()
    assert set(counts.tolist()) == {2.0, 3.0}
    assert abs(counts.mean().item() - 8 / 3) < 5 * math.sqrt(2 / 9 / 4000)


def test_confidence_is_that_of_the_sampled_token() -> None:
    logits = torch.randn(1, 2000, 3, generator=torch.Generator().manual_seed(0))
    path = Mixture(source=MaskSource(), unmasking_order=ConfidenceOrder(0.0))
    x = torch.full((1, 2000), 3)
    y = path.characteristics(logits, x, f64(0.0)).jumps.apply(x, 0.5, Rng(0).stream("step"))
    every = path.characteristics(logits, x, f64(0.0)).jumps.apply(x, 1.0, Rng(0).stream("step"))
    p = logits.softmax(-1).gather(2, every[..., None])[..., 0]
    shown = y != 3
    assert (y[shown] == every[shown]).all()
    assert int(shown.sum()) == 1000
    assert p[shown].min() >= p[~shown].max()


def test_superposition_and_scaling_keep_the_order() -> None:
    path = Mixture(source=MaskSource(), unmasking_order=EntropyOrder())
    process = path.process(network, {})
    x = torch.full((3, 8), 3)
    now = process(x, f64(0.0).expand(3)).jumps
    whole = now.apply(x, 0.5, Rng(0).stream("step")) != 3
    half = superpose((0.5, process), (0.5, process))(x, f64(0.0).expand(3)).jumps
    assert torch.equal(half.apply(x, 0.5, Rng(0).stream("step")) != 3, whole)
    assert torch.equal(now.with_destinations(now).apply(x, 0.5, Rng(0).stream("step")) != 3, whole)
    assert whole[:, 4:].all()
    fewer = (now * 0.5).apply(x, 0.75, Rng(0).stream("step")) != 3  # 1 - (1 / 4)^0.5
    assert fewer.sum(1).tolist() == [4, 4, 4]


def test_known_tokens_are_not_counted() -> None:
    x = torch.full((2, 8), 3)
    x[:, 6:] = 0
    y = Mixture(source=MaskSource(), unmasking_order=EntropyOrder()).characteristics(
        network(x, f64(), {}), x, f64(0.0, 0.0)
    )
    y = y.jumps.apply(x, 0.5, Rng(0).stream("step"))
    assert (y[:, 6:] == 0).all()
    assert (y[:, 3:6] != 3).all()
    assert (y[:, :3] == 3).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mixture(unmasking_order=EntropyOrder()),
        lambda: Mixture(source=UniformSource(), unmasking_order=EntropyOrder()),
        lambda: Mixture(source=MaskSource(), unmasking_order=EntropyOrder(), corrector=LogOddsCorrector()),
        lambda: Mixture(KineticOptimalPerToken((0.5, 0.5)), MaskSource(), unmasking_order=EntropyOrder()),
    ],
)
def test_unmasking_orders_need_a_mask_source(make) -> None:
    with refuses(UsageError):
        make()


def test_negative_noise_is_refused() -> None:
    with refuses(UsageError, argument="noise", found="-1"):
        ConfidenceOrder(-1.0)
    assert ConfidenceOrder(0.0).score(torch.zeros(1, 2), torch.tensor([0]), torch.zeros(1, dtype=F64)).isfinite().all()


def test_states_of_one_token() -> None:
    path = Mixture(source=MaskSource(), unmasking_order=ConfidenceOrder())
    x = torch.full((5,), 3)
    *_, end = trajectory(
        path.process(lambda x, t, given: torch.zeros(*x.shape, 3), {}), x, linear_grid(4), Euler(), Rng(0)
    )
    assert (end < 3).all()
