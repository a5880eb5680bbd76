"""Secure, seeded and shared-key noise: distributions, grid, streams."""

import copy
import math
import os
import pickle
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from feller.core.errors import UsageError
from feller.privacy.dp_sgd.poisson_sampling import poisson_batches
from feller.privacy.noise import discrete_samplers, grid_noise
from feller.privacy.noise.grid_noise import KEY, Noise, SecureNoise, SeededNoise, SharedKeyNoise, make_noise
from tests.errors import refuses


def p_value(drawn: torch.Tensor, cdf: Callable) -> float:
    return stats.kstest(drawn.flatten().numpy(), cdf).pvalue


def test_continuous_distributions() -> None:
    """Each would fail by chance once in 10,000; the seed is fixed."""
    noise = SeededNoise(0)
    normal = noise.normal((101, 999))
    assert normal.dtype == torch.float64
    assert p_value(normal, stats.norm.cdf) > 1e-4
    assert p_value(noise.uniform((100_000,)), stats.uniform.cdf) > 1e-4
    assert p_value(noise.laplace((100_000,)), stats.laplace.cdf) > 1e-4
    assert abs(np.corrcoef(normal[:, :-1].flatten(), normal[:, 1:].flatten())[0, 1]) < 4 / math.sqrt(100_000)
    squares = normal.square().flatten()
    assert abs(np.corrcoef(squares[:50_000], squares[50_000:100_000])[0, 1]) < 4 / math.sqrt(50_000)
    assert noise.normal((3, 2), torch.float32).dtype == torch.float32


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.7, 47.863])
def test_discrete_gaussian(sigma: float) -> None:
    """Chi-square over cells that expect 10 or more; a false alarm once in 10,000."""
    n = 100_000
    drawn = SeededNoise(1).discrete_gaussian(sigma, (n,))
    reach = math.ceil(12 * sigma) + 3
    k = np.arange(-reach, reach + 1)
    masses = np.exp(-(k**2) / (2 * sigma**2))
    chi_square(drawn.numpy(), k, masses / masses.sum())


def test_discrete_laplace() -> None:
    k = np.arange(-400, 401)
    masses = np.exp(-np.abs(k) / 5)
    chi_square(SeededNoise(2).discrete_laplace(5, (100_000,)).numpy(), k, masses / masses.sum())


def chi_square(drawn: np.ndarray, k: np.ndarray, masses: np.ndarray) -> None:
    n = len(drawn)
    counts = np.bincount(drawn - k[0], minlength=len(k))
    large = n * masses >= 10
    observed = np.append(counts[large], n - counts[large].sum())
    expected = np.append(n * masses[large], n * (1 - masses[large].sum()))
    kept = expected > 1
    assert (observed[~kept] <= 20).all()
    scaled = expected[kept] * observed[kept].sum() / expected[kept].sum()
    assert stats.chisquare(observed[kept], scaled).pvalue > 1e-4


def test_randint_is_uniform() -> None:
    noise = SeededNoise(3)
    counts = np.bincount(noise.randint(7, (70_000,)).numpy())
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-4
    assert noise.randint(1, (3,)).tolist() == [0, 0, 0]
    assert noise.randint(2**62, (100,)).max() > 2**61
    with pytest.raises(UsageError):
        noise.randint(0, (1,))


def test_bernoulli_exp_beyond_float64() -> None:
    """U begins with the first 53 bits of e^-x itself, so the next word decides; e^-1/2 = 0.100110110100...b."""
    exact = Fraction(60653065971263342360379953499118045344191813548718695568289, 10**59)  # e^-1/2
    begun = int(exact * 2**53)
    rest = exact * 2**53 - begun

    def next_word(share: float) -> Callable[[int], np.ndarray]:
        return lambda n: np.full(n, int((rest + Fraction(share)) * 2**64), dtype=np.uint64)

    assert discrete_samplers.decide_bernoulli_exp(next_word(-1e-6), begun, Fraction(1, 2))
    assert not discrete_samplers.decide_bernoulli_exp(next_word(1e-6), begun, Fraction(1, 2))
    assert discrete_samplers.decide_bernoulli_exp(next_word(0.0), begun - 1, Fraction(1, 2))
    assert not discrete_samplers.decide_bernoulli_exp(next_word(0.0), begun + 1, Fraction(1, 2))


def test_bernoulli() -> None:
    """Within 4 standard deviations."""
    heads = SeededNoise(4).bernoulli(0.03, (100, 1000)).double().mean().item()
    assert abs(heads - 0.03) < 4 * math.sqrt(0.03 * 0.97 / 100_000)


def test_add_gaussian_rounds_to_a_grid() -> None:
    """Noise of scale 3 on values of all sizes: multiples of 2^(1 - 34), and the variance is right to 4 sigma."""
    noise, n = SeededNoise(5), 40_000
    values = torch.linspace(-1000, 1000, n, dtype=torch.float64) * math.pi
    sums = noise.add_gaussian(values, 3.0)
    grid = 2.0 ** (1 - 34)
    assert torch.equal((sums / grid).round() * grid, sums)
    variance = (sums - values).square().mean().item()
    assert abs(variance / 9 - 1) < 4 * math.sqrt(2 / n)
    assert torch.equal(noise.add_gaussian(values, 0.0), values)


def test_seeded_noise_repeats() -> None:
    first = SeededNoise(0, "train", 3).normal((5,))
    assert torch.equal(first, SeededNoise(0, "train", 3).normal((5,)))
    for other in (SeededNoise(1, "train", 3), SeededNoise(0, "train", 4), SeededNoise(0)):
        assert not torch.equal(first, other.normal((5,)))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda noise: pickle.loads(pickle.dumps(noise))])
def test_copies_of_secure_noise_differ(again: Callable[[Noise], Noise]) -> None:
    noise = SecureNoise()
    assert not torch.equal(again(noise).uniform((4,)), noise.uniform((4,)))


def test_secure_noise_differs_between_instances_and_forks() -> None:
    noise = SecureNoise()
    assert not torch.equal(SecureNoise().uniform((4,)), noise.uniform((4,)))
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(sink, noise.random_bytes(32))
        os._exit(0)
    theirs = os.read(source, 32)
    os.waitpid(child, 0)
    assert len(theirs) == 32
    assert theirs != noise.random_bytes(32)


def test_key_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.privacy.noise.grid_noise.RENEW_BYTES", 100)
    noise = SecureNoise()
    before = noise._stream
    noise.random_bytes(64)
    assert noise._stream is before
    noise.random_bytes(64)
    assert noise._stream is not before


@pytest.mark.slow
def test_normal_speed() -> None:
    """200,000 take no more than twice what their bytes from the system and as many of torch take, the best of 20."""
    noise = SecureNoise()

    def best(draw: Callable[[], object]) -> float:
        least = math.inf
        for _ in range(20):
            begun = time.process_time()
            draw()
            least = min(least, time.process_time() - begun)
        return least

    floor = best(lambda: os.urandom(8 * 200_000)) + best(lambda: torch.randn(200_000, dtype=torch.float64))
    assert best(lambda: noise.normal((200_000,))) < 2 * floor


SECRET = os.urandom(KEY)
N, SIZE = 500, 60


def test_stream_is_a_function_of_key_and_name() -> None:
    same = [SharedKeyNoise(SECRET, "coins", 3).random_bytes(100) for _ in range(2)]
    assert same[0] == same[1]
    others = [SharedKeyNoise(SECRET, "coins", 4), SharedKeyNoise(os.urandom(KEY), "coins", 3), SecureNoise()]
    assert len({same[0], *(other.random_bytes(100) for other in others)}) == 4
    with refuses(UsageError, found="5"):
        SharedKeyNoise(b"short", "coins")


def test_key_renewal_is_the_same_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = SharedKeyNoise(SECRET, "coins").random_bytes(1000)
    monkeypatch.setattr(grid_noise, "RENEW_BYTES", 100)
    streams = [SharedKeyNoise(SECRET, "coins") for _ in range(2)]
    taken = [b"".join(stream.random_bytes(40) for _ in range(25)) for stream in streams]
    assert taken[0] == taken[1]
    assert taken[0][:80] == endless[:80]
    assert len({taken[0][i : i + 40] for i in range(0, 1000, 40)}) == 25
    assert taken[0][80:120] != endless[80:120]


def test_make_noise() -> None:
    assert isinstance(make_noise(3, "x", key=SECRET), SeededNoise)
    assert isinstance(make_noise(None, "x", key=SECRET), SharedKeyNoise)
    assert isinstance(make_noise(None, "x"), SecureNoise)


@pytest.mark.parametrize("ranks", [2, 3])
def test_rank_batches_are_slices_of_the_poisson_batch(ranks: int) -> None:
    rows = {"x_1": torch.arange(N), "given": {}}

    def drawn(cut: slice, steps: int) -> list[torch.Tensor]:
        batch = poisson_batches(copy.copy(rows), SIZE, SharedKeyNoise(SECRET, "coins"))
        return [batch(step, cut)["x_1"] for step in range(steps)]

    whole = drawn(slice(0, SIZE), 40)
    cuts = [slice(SIZE * rank // ranks, SIZE * (rank + 1) // ranks) for rank in range(ranks)]
    parts = [drawn(cut, 40) for cut in cuts]
    assert {len(one) > SIZE for one in whole} == {True, False}  # 40 draws on one side: below 1e-10
    for step, one in enumerate(whole):
        assert torch.equal(torch.cat([part[step] for part in parts]), one)
        for cut, part in zip(cuts, parts, strict=True):
            assert torch.equal(part[step][: cut.stop - cut.start], one[cut])
