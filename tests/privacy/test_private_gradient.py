"""DP-SGD gradients, clipping norms, Poisson sampling, one-run audits."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.gradient import MeanGradient
from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.networks import MLP
from feller.paths import Affine
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.auditing.one_run import epsilon_lower_bound, num_right_guesses, tail_probability
from feller.privacy.dp_sgd.clip_norm import AdaptiveClipNorm, FixedClipNorm
from feller.privacy.dp_sgd.correlated_noise import CorrelatedNoise
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_loop
from feller.privacy.dp_sgd.poisson_sampling import poisson, poisson_batches
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.noise.banded_matrix import BandedToeplitz
from feller.privacy.noise.grid_noise import Noise, SeededNoise
from feller.spaces import Euclidean
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig
from tests.errors import refuses
from tests.oracle import close
from tests.privacy.layers_here import F64, Placed, Scaled, answer_loss, normal, shaken, symbols

TEXT = symbols(7, 6, 5)


def private(sigma: float, clip: float, seed: int = 0, rank: int = 0) -> DPSGD:
    return DPSGD(sigma=sigma, clip=FixedClipNorm(clip), noise=SeededNoise(seed), rank=rank)


def cut(example: dict[str, Tensor], *ends: int) -> list[dict[str, Tensor]]:
    starts = (0, *ends[:-1])
    return [tree_map(lambda leaf, a=a, b=b: leaf[a:b], example) for a, b in zip(starts, ends, strict=True)]


@pytest.mark.parametrize(("make", "x"), [(Placed, TEXT), (Scaled, normal(6, 4))], ids=["one pass", "vmap"])
def test_mean_gradient_without_clipping_and_noise(make, x: Tensor) -> None:
    ours = shaken(make())
    plain = copy.deepcopy(ours)
    batches = cut({"x": x}, 3, 3, 4, 6)
    gradient = private(0.0, math.inf)
    for _ in range(2):  # gradients add to what is there
        told = gradient(answer_loss, ours, batches, 8.0)
        MeanGradient()(answer_loss, plain, batches, 8.0)
    assert told.isnan()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        close(mine.grad, theirs.grad, 1e-12)


def points() -> dict:
    return {"x_1": Rng(0).stream("data").normal((32, 2)), "given": {}}


def trained(gradient) -> dict[str, Tensor]:
    learner = make_train_state(
        MLP(width=16, depth=1).build((2,), {}, Rng(0)), TrainConfig(batch_size=32, steps=8, micro_batch=20)
    )
    objective = FlowMatching(Affine(), Euclidean((2,)))
    batches = poisson_batches(points(), 32, SeededNoise(0))
    for _ in train(
        learner,
        objective,
        batches,
        TrainConfig(batch_size=32, steps=8, micro_batch=20),
        rng=Rng(0),
        engine=get_engine(),
        gradient=gradient,
    ):
        pass
    return learner.weights()


def test_training_without_clipping_and_noise_matches_plain_training() -> None:
    ours, plain = trained(private(0.0, math.inf)), trained(MeanGradient())
    for name, weight in plain.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=2e-6)


def test_noise_depends_on_the_seed() -> None:
    one, same, other = (trained(private(1.0, 1.0, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_training_on_empty_batches() -> None:
    """Batches of one row on average: a third are empty, another third have a single row."""
    network = MLP(width=8, depth=1).build((2,), {}, Rng(0))
    training = TrainConfig(batch_size=1, steps=12)
    learner = make_train_state(network, training)
    batches = poisson_batches(points(), 1, SeededNoise(2))
    sizes: list[int] = []

    def watched(step: int, rows: slice) -> dict:
        found = batches(step, rows)
        sizes.append(len(found["x_1"]))
        return found

    objective = FlowMatching(Affine(), Euclidean((2,)))
    reports = train(learner, objective, watched, training, rng=Rng(0), engine=get_engine(), gradient=private(1.0, 1.0))
    assert len(list(reports)) == 12
    assert min(sizes) == 0
    assert max(sizes) > 1
    assert all(weight.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize("way", ["one pass", "vmap", "empty batch"])
def test_noise_std_at_zero_gradients(way: str) -> None:
    """Variance (sigma C / B)^2: of 10,100 numbers, 5 % is 3.5 standard deviations; the seed is fixed."""
    network, sigma, clip, size = nn.Linear(100, 100), 1.7, 0.3, 64.0

    def nothing(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
        if way == "vmap":
            return 0 * sum(weight.sum() for weight in network.parameters()) * example["x"].sum(1)
        return 0 * network(example["x"]).sum(1)

    batches = [] if way == "empty batch" else [{"x": torch.randn(5, 100)}, {"x": torch.randn(0, 100)}]
    private(sigma, clip)(nothing, network, batches, size)
    noise = torch.cat([weight.grad.flatten() for weight in network.parameters()])
    assert noise.square().mean().item() == pytest.approx((sigma * clip / size) ** 2, rel=0.05)
    assert stats.kstest(noise.numpy() * size / (sigma * clip), stats.norm.cdf).pvalue > 1e-3


def test_noise_on_unused_but_not_on_frozen_weights() -> None:
    network = nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(3, 2)})
    network["used"].bias.requires_grad_(False)
    private(1.0, 1.0)(lambda net, example: net["used"](example["x"]).sum(1), network, [{"x": torch.randn(4, 3)}], 4.0)
    assert network["used"].bias.grad is None
    assert network["unused"].weight.grad.abs().min() > 0


def test_noise_is_added_once_by_rank_zero() -> None:
    """Two ranks with half the rows each, averaged, equal one process."""
    example = {"x": TEXT}
    whole = shaken(Placed())
    halves = [copy.deepcopy(whole) for _ in range(2)]
    private(0.5, 1.0, seed=3)(answer_loss, whole, cut(example, 2, 6), 6.0)
    for rank, (half, rows) in enumerate(zip(halves, cut(example, 3, 6), strict=True)):
        private(0.5, 1.0, seed=3, rank=rank)(answer_loss, half, [rows], 3.0)
    for one, first, second in zip(whole.parameters(), *(half.parameters() for half in halves), strict=True):
        close((first.grad + second.grad) / 2, one.grad, 1e-9)


def test_correlated_noise_is_added_once_by_rank_zero() -> None:
    """Two processes with one batch: the sum of their gradients has the noise of rank 0 alone, over several steps."""
    network, matrix = nn.Linear(4, 3), BandedToeplitz((1.0, 0.5))
    example = {"x": torch.zeros(2, 4)}
    zero = lambda network, example: (network(example["x"]) * 0).sum(1)  # noqa: E731
    noises = [CorrelatedNoise(matrix), CorrelatedNoise(matrix)]
    gradients = [
        DPSGD(sigma=1.5, noise=SeededNoise(1, "noise"), correlation=noise, rank=rank, all_reduce=lambda sums: sums)
        for rank, noise in enumerate(noises)
    ]
    twin, fresh = CorrelatedNoise(matrix), SeededNoise(1, "noise")
    for _ in range(3):
        network.zero_grad()
        for gradient in gradients:
            gradient(zero, network, [example], 10.0)
        for name, weight in network.named_parameters():
            expected = twin.add(name, torch.zeros_like(weight), 1.5, fresh) / 10
            assert torch.allclose(weight.grad.double(), expected, atol=1e-6)
    assert gradients[0].dp_event(0.1, 8) == PoissonSubsampledGaussian("training", 1.5, 0.1, 8, 2)


def test_row_contribution_is_at_most_the_clip_norm() -> None:
    """A row less changes the sum by at most C (1 + 1e-6), in single precision too."""
    network = shaken(Placed()).float()
    longest = 0.0
    for row in TEXT.split(1):
        rows = torch.cat([row, row])  # two rows go the fast way
        network.zero_grad()
        private(0.0, 0.1)(answer_loss, network, [{"x": rows}], 2.0)
        longest = max(longest, nn.utils.get_total_norm([weight.grad for weight in network.parameters()]).item())
    assert 0.0999 < longest <= 0.1 * (1 + 1e-6)


def test_non_finite_gradients_count_as_zero() -> None:
    network, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double(), normal(6, 4)
    broken = x.clone()
    broken[2] = math.nan
    broken[4] = math.inf
    private(0.0, 0.5)(answer_loss, network, [{"x": broken}], 6.0)
    expected = clipped_by_loop(answer_loss, network, {"x": x[[0, 1, 3, 5]]}, 0.5)
    for name, weight in network.named_parameters():
        close(weight.grad, expected.sums[name] / 6, 1e-12)


def ranked(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
    answer = network(example["x"]).sum(1)
    return (answer - answer.mean()).square()


@pytest.mark.parametrize(
    ("loss", "network"), [(answer_loss, nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))), (ranked, nn.Linear(4, 2))]
)
def test_batch_norm_and_losses_of_the_whole_batch_are_refused(loss, network: nn.Module) -> None:
    with refuses(UsageError):
        private(1.0, 1.0)(loss, network, [{"x": torch.randn(6, 4)}], 6.0)


def test_dp_event() -> None:
    assert private(1.3, 2.0).dp_event(0.1, 7) == PoissonSubsampledGaussian("training", 1.3, 0.1, 7)


class ScaledNoise(Noise):
    def __init__(self, noise: Noise, factor: float) -> None:
        self.noise, self.factor = noise, factor

    def random_bytes(self, count: int) -> bytes:
        return self.noise.random_bytes(count)

    def normal(self, shape, dtype=torch.float64, device="cpu") -> Tensor:
        return self.factor * self.noise.normal(shape, dtype, device)


def test_adaptive_clip_norm_splits_sigma() -> None:
    """Noise of sum and count together is worth sigma."""
    clip = AdaptiveClipNorm(0.1, 0.75, 0.2, count_sigma=10.0)
    noise = SeededNoise(0)
    raised = clip.sum_sigma(1.2)
    assert raised**-2 + (2 * 10.0) ** -2 == pytest.approx(1.2**-2)
    assert clip.sum_sigma(0.0) == 0
    with refuses(UsageError, found="10"):
        DPSGD(sigma=30.0, clip=clip, noise=noise)
    with pytest.raises(UsageError):
        DPSGD(sigma=1.0, clip=clip, noise=noise, rank=1)
    with pytest.raises(UsageError):
        private(-1.0, 1.0)
    with pytest.raises(UsageError):
        AdaptiveClipNorm(count_sigma=0.0)


def test_adaptive_clip_norm_update_rule() -> None:
    """C e^(-rate (b - quantile)), b the noisy mean of the marks, not clipped to [0, 1] (algorithm 1)."""
    lengths, noise = torch.tensor([0.5, 1.5, 2.0, 3.0]), SeededNoise(1)
    clip, z = AdaptiveClipNorm(2.0, 0.6, 0.3, count_sigma=8.0), SeededNoise(1)
    norm = 2.0
    for _ in range(5):
        marks = (lengths <= norm).double().sum().item()
        norm *= math.exp(-0.3 * ((marks + 8.0 * z.normal(()).item()) / 4 - 0.6))
        clip.update(lengths, 4.0, noise)
        assert clip.norm == pytest.approx(norm, rel=1e-6)


class RecordedNoise(Noise):
    def __init__(self) -> None:
        self.inner, self.told = SeededNoise(0), []

    def random_bytes(self, count: int) -> bytes:
        return self.inner.random_bytes(count)

    def add_gaussian(self, values: Tensor, scale: float) -> Tensor:
        self.told.append((values.double().clone(), scale))
        return super().add_gaussian(values, scale)


def test_sensitivity_of_sum_and_count() -> None:
    """Without one row, at the recorded clip norms: (|d sum| / noise)^2 + (d count / noise)^2."""
    sigma, x, costs = 1.3, 3 * normal(8, 3).abs(), []
    for without in range(8):
        clip, other = (AdaptiveClipNorm(1.0, 0.5, 0.5, count_sigma=2.0) for _ in range(2))
        network = nn.Linear(3, 1, bias=False).double()
        for _ in range(6):
            notes = []
            norm = clip.norm
            other.restore(norm)
            rest = torch.cat([x[:without], x[without + 1 :]])
            for kind, rows in ((clip, x), (other, rest)):
                noise = RecordedNoise()
                private = DPSGD(sigma=sigma, clip=kind, noise=noise)
                private(lambda net, example: net(example["x"])[:, 0], network, [{"x": rows}], 8.0)
                notes.append(noise.told)
            pairs = list(zip(*notes, strict=True))
            assert [[scale for _, scale in pair] for pair in pairs] == [[clip.sum_sigma(sigma) * norm] * 2, [2.0] * 2]
            costs.append(sum((a - b).square().sum().item() / scale**2 for (a, scale), (b, _) in pairs))
    assert max(costs) == pytest.approx(sigma**-2, rel=1e-6)
    assert all(cost <= sigma**-2 * (1 + 1e-6) for cost in costs)


def test_adaptive_clip_norm_is_updated_by_training() -> None:
    network = nn.Linear(3, 1, bias=False)
    clip = AdaptiveClipNorm(1.0, 0.5, 0.5, count_sigma=1.0)
    gradient = DPSGD(sigma=0.0, clip=clip, noise=ScaledNoise(SeededNoise(0), 0.0))
    x = 5 * nn.functional.normalize(torch.randn(40, 3), dim=1)
    for _ in range(30):
        gradient(lambda net, example: net(example["x"])[:, 0], network, [{"x": x}], 40.0)
    assert 3 < clip.norm < 7


def test_poisson_batch_sizes_are_binomial() -> None:
    """Chi-square of sizes over 2,000 batches of 100 x 0.1 rows, and of how often each row comes; fixed seed."""
    noise = SeededNoise(0)
    drawn = [poisson(100, 0.1, noise) for _ in range(2000)]
    sizes = torch.tensor([len(rows) for rows in drawn])
    law = stats.binom(100, 0.1)
    edges = list(range(5, 16))
    cells = [law.cdf(4), *(law.pmf(k) for k in edges), law.sf(15)]
    seen = [(sizes < 5).sum(), *((sizes == k).sum() for k in edges), (sizes > 15).sum()]
    assert stats.chisquare([count.item() for count in seen], [2000 * p for p in cells]).pvalue > 1e-3
    counts = torch.cat(drawn).bincount(minlength=100)
    spread = (counts - 200).double().square().sum().item() / (2000 * 0.1 * 0.9)
    assert stats.chi2(100).sf(spread) > 1e-3
    assert poisson(5, 1.0, noise).tolist() == [0, 1, 2, 3, 4]
    for rate in (0.0, 1.2):
        with pytest.raises(UsageError):
            poisson(5, rate, noise)


def test_poisson_batches_of_ranks_and_encoding() -> None:
    rows = {"x_1": torch.arange(103), "given": {"label": torch.arange(103)}}
    batches = poisson_batches(rows, 103, SeededNoise(0), encode=lambda x: 2 * x)
    parts = [batches(0, slice(103 * r // 3, 103 * (r + 1) // 3)) for r in range(3)]
    assert torch.equal(torch.cat([part["given"]["label"] for part in parts]), torch.arange(103))
    assert torch.equal(parts[1]["x_1"], 2 * parts[1]["given"]["label"])
    half = poisson_batches(rows, 20, SeededNoise(0))
    assert not torch.equal(half(0, slice(0, 20))["x_1"], half(0, slice(0, 20))["x_1"])
    for size in (0, 104):
        with refuses(UsageError, found=str(size)):
            poisson_batches(rows, size, SeededNoise(0))


def test_epsilon_lower_bound() -> None:
    """All of 200 guesses right is the ceiling: 0.95 = 1 - p^200. Half right says nothing."""
    p = 0.05 ** (1 / 200)
    assert epsilon_lower_bound(200, 200) == pytest.approx(math.log(p / (1 - p)), abs=1e-6)
    assert epsilon_lower_bound(200, 200) == pytest.approx(4.19, abs=0.005)
    assert epsilon_lower_bound(100, 200) == 0
    one = epsilon_lower_bound(150, 200)
    assert stats.binom.sf(149, 200, 1 / (1 + math.exp(-one))) == pytest.approx(0.05, abs=1e-6)
    assert 0 < epsilon_lower_bound(150, 200, delta=1e-5, num_canaries=1000) < one
    assert tail_probability(0, 10, 1.0, 1e-5, 100) == 1.0
    with pytest.raises(UsageError):
        epsilon_lower_bound(5, 4)


def scores(factor: float, seed: int) -> Iterator[Tensor]:
    """Train on planted rows, each with a weight of its own; yield scores and who was there.

    A row's slope is 1 where it is in a batch; the score is the likelihood ratio of the noisy sums, step by step.
    """
    m, sigma, rate, steps = 1000, 2.5288, 1024 / 32_561, 400
    noise = SeededNoise(seed, "audit")
    present = noise.bernoulli(0.5, (m,))
    network = nn.Linear(m, 1, bias=False)
    gradient = DPSGD(sigma=sigma, noise=ScaledNoise(noise, factor))
    rows = torch.eye(m)[present]
    total = torch.zeros(m, dtype=F64)
    for _ in range(steps):
        network.weight.grad = None
        example = {"x": rows[poisson(len(rows), rate, noise)]}
        gradient(lambda net, example: net(example["x"])[:, 0], network, [example], 1.0)
        total += torch.log1p(rate * torch.expm1((2 * network.weight.grad[0].double() - 1) / (2 * sigma**2)))
    yield total
    yield present


def test_canary_audit_detects_a_quarter_of_the_noise() -> None:
    """Epsilon 1; reference: 0.19 (at most 0.47 of 20 seeds) with all the noise, 1.56 with a quarter of it."""
    assert epsilon_lower_bound(num_right_guesses(*scores(1.0, 0), 200), 200) < 0.7
    assert epsilon_lower_bound(num_right_guesses(*scores(0.25, 0), 200), 200) > 1.0


def test_num_right_guesses() -> None:
    ranked = torch.tensor([3.0, 1.0, 2.0, 0.0])
    assert num_right_guesses(ranked, torch.tensor([True, False, True, False]), 4) == 4
    assert num_right_guesses(ranked, torch.tensor([True, True, True, True]), 2) == 1
    with pytest.raises(UsageError):
        num_right_guesses(ranked, torch.ones(4, dtype=torch.bool), 3)
