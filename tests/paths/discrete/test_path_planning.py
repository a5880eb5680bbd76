"""Path planning: one step against its definition, and planners."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import ConfidenceOrder, EntropyBound, EntropyOrder, LearnedOrder, Mixture, PathPlanning
from feller.paths.processes import clamp
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate, trajectory
from feller.spaces import MaskSource
from tests.errors import refuses

K, N, B = 4, 8, 60
LOGITS = 2 * torch.randn(B, N, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PLANNER_LOGITS = 2 * torch.randn(B, N, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def half_masked() -> Tensor:
    """Return states with four of eight tokens masked."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(K, (B, N), generator=generator)
    return torch.where(torch.rand(B, N, generator=generator).argsort(1) < 4, K, x)


def step(order, x: Tensor, s: float, **options) -> Tensor:
    path = Mixture(source=MaskSource(), unmasking_order=order, **options)
    now = path.characteristics(LOGITS[: len(x)], x, torch.full((len(x),), 0.5, dtype=torch.float64))
    return now.jumps.apply(x, s, Rng(0).stream("step"))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("is_learned", [False, True])
def test_step_keeps_the_best_tokens_and_masks_the_rest(eta: float, is_learned: bool) -> None:
    """From time 1/2 to 3/4 two of four masked tokens are due, so that the best six of eight are kept."""
    x = half_masked()
    planner = LearnedOrder(lambda x, t, cond: PLANNER_LOGITS) if is_learned else ConfidenceOrder(0.0)
    y = step(PathPlanning(planner, eta), x, 0.75)
    x_1 = step(PathPlanning(planner, eta), x, 1.0)  # reveals all, with the same random numbers
    assert torch.equal(x_1[x != K], x[x != K])
    if is_learned:
        score = F.logsigmoid(PLANNER_LOGITS.gather(2, x_1[..., None])[..., 0])
    else:
        score = LOGITS.log_softmax(2).gather(2, x_1[..., None])[..., 0]
    score = torch.where(x == K, score, eta * score)
    for i in range(B):
        kept = sorted(range(N), key=lambda j, i=i: -score[i, j].item())[:6]
        expected = [x_1[i, j].item() if j in kept else K for j in range(N)]
        assert y[i].tolist() == expected
    remasked = ((x != K) & (y == K)).sum().item()
    assert (remasked == 0) == (eta == 0)


def test_eta_zero_is_the_order_by_confidence() -> None:
    process = [
        Mixture(source=MaskSource(), unmasking_order=order).process(lambda x, t, cond: LOGITS, {})
        for order in (PathPlanning(eta=0.0), ConfidenceOrder(0.0))
    ]
    x = torch.full((B, N), K)
    first, second = (list(trajectory(p, x, linear_grid(4), Euler(), Rng(0))) for p in process)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_learned_order_ranks_by_the_planner_which_reads_complete_states() -> None:
    seen = []

    def planner(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        seen.append((x, t, cond))
        return PLANNER_LOGITS

    x, label = torch.full((B, N), K), torch.arange(B)
    path = Mixture(source=MaskSource(), unmasking_order=LearnedOrder(planner))
    process = path.process(lambda x, t, cond: LOGITS, {"label": label})
    y = process(x, torch.full((B,), 0.5, dtype=torch.float64)).jumps.apply(x, 0.75, Rng(0).stream("step"))
    ((completed, t, cond),) = seen
    assert (completed < K).all()
    assert (t == 0.5).all()
    assert torch.equal(cond["label"], label)
    score = PLANNER_LOGITS.gather(2, completed[..., None])[..., 0]
    best = score.topk(4, 1).indices
    assert torch.equal((y != K), torch.zeros(B, N, dtype=torch.bool).scatter(1, best, True))
    assert torch.equal(y[y != K], completed[y != K])


def test_observed_tokens_are_never_masked_again() -> None:
    known = torch.arange(N) < 3
    x = torch.where(known, 1, K).expand(B, N).clone()
    bad = LOGITS.clone()
    bad[:, :3, 1] = -50.0  # the observed tokens are the least probable ones
    path = Mixture(source=MaskSource(), unmasking_order=PathPlanning(eta=2.0))
    process = clamp(path.process(lambda x, t, cond: bad, {}), known.expand(B, N))
    was_remasked = False
    before = x
    for state in trajectory(process, x, linear_grid(10), Euler(), Rng(0)):
        assert (state[:, :3] == 1).all()
        was_remasked |= bool(((before != K) & (state == K)).any())
        before = state
    assert was_remasked
    assert (before != K).all()


def test_path_planning_with_an_entropy_bound_ends() -> None:
    path = Mixture(source=MaskSource(), unmasking_order=PathPlanning(), unmasking_count=EntropyBound(0.0))
    calls = []

    def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        calls.append(x)
        return LOGITS

    y = simulate(path.process(network, {}), torch.full((B, N), K), linear_grid(40), Euler(), Rng(0))
    assert (y != K).all()
    assert len(calls) == N


def test_impossible_tokens_are_ranked_last() -> None:
    """A revealed token of probability 0 is masked again, and eta = 0 keeps it."""
    logits = torch.zeros(1, N, K).double()
    logits[0, 0, 1] = -torch.inf
    x = torch.full((1, N), K)
    x[0, 0] = 1
    for eta, expected in ((1.0, K), (0.0, 1)):
        path = Mixture(source=MaskSource(), unmasking_order=PathPlanning(eta=eta))
        y = path.characteristics(logits, x, torch.zeros(1).double()).jumps.apply(x, 0.5, Rng(0).stream("step"))
        assert y[0, 0] == expected


@pytest.mark.parametrize("eta", [-1.0, math.nan, math.inf])
def test_wrong_eta(eta: float) -> None:
    with refuses(UsageError, argument="eta"):
        PathPlanning(eta=eta)


@pytest.mark.parametrize("planner", [EntropyOrder(), PathPlanning()])
def test_planners_score_tokens(planner) -> None:
    with refuses(UsageError, argument="planner", found=type(planner).__name__):
        PathPlanning(planner)
