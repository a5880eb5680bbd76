"""Counter-based random streams: addresses, independence of the batch, distributions."""

import itertools
import math

import pytest
import torch

from feller.core.rng import BLOCK, RandomStream, Rng, categorical, hash_seed
from tests.oracle import F64, f64

LAWS = {
    "normal": lambda draw, shape: draw.normal(shape),
    "normal64": lambda draw, shape: draw.normal(shape, F64),
    "uniform": lambda draw, shape: draw.uniform(shape),
    "uniform64": lambda draw, shape: draw.uniform(shape, F64),
    "uniform in larger blocks": lambda draw, shape: draw.uniform(shape, block=1024),
    "integers": lambda draw, shape: draw.randint(1000, shape),
}


@pytest.fixture(params=LAWS, name="law")
def _law(request):
    return LAWS[request.param]


def test_equal_addresses_give_equal_numbers(law) -> None:
    assert torch.equal(law(Rng(3).stream("noise", 7), (300, 2)), law(Rng(3).stream("noise", 7), (300, 2)))


def test_other_addresses_give_other_numbers(law) -> None:
    sources = [
        Rng(3).stream("noise", 7),
        Rng(4).stream("noise", 7),
        Rng(3).stream("time", 7),
        Rng(3).stream("noise", 8),
    ]
    sources += [Rng(3).fold_in("part").stream("noise", 7), Rng(3, first_example=BLOCK).stream("noise", 7)]
    numbers = [law(draw, (8, 4)) for draw in sources]
    for i, a in enumerate(numbers):
        assert not any(torch.equal(a, b) for b in numbers[:i])


def test_successive_requests_differ(law) -> None:
    draw = Rng(3).stream("noise")
    assert not torch.equal(law(draw, (8, 4)), law(draw, (8, 4)))


@pytest.mark.parametrize("cuts", [(0, 300), (0, 100, 300), (0, 256, 300), (0, 1, 2, 255, 257, 300)], ids=str)
def test_numbers_do_not_depend_on_the_batch(law, cuts) -> None:
    whole = Rng(5).stream("noise")
    expected = [law(whole, (300, 3)), law(whole, (300, 2, 2)), law(whole, (300,))]
    parts = []
    for start, stop in itertools.pairwise(cuts):
        draw = Rng(5, first_example=start).stream("noise")
        parts.append([law(draw, (stop - start, 3)), law(draw, (stop - start, 2, 2)), law(draw, (stop - start,))])
    for i, request in enumerate(expected):
        assert torch.equal(request, torch.cat([part[i] for part in parts]))


def test_numbers_do_not_depend_on_padding(law) -> None:
    short, long = Rng(5).stream("noise"), Rng(5).stream("noise")
    assert torch.equal(law(short, (300, 5, 2)), law(long, (300, 9, 2))[:, :5])
    assert torch.equal(law(short, (300, 4)), law(long, (300, 4)))


def test_a_forked_stream_does_not_advance_its_parent() -> None:
    idle, busy = Rng(5).stream("noise"), Rng(5).stream("noise")
    idle.fork()
    branch = busy.fork()
    first, second = branch.normal((4,)), branch.normal((4,))
    following = idle.normal((4,))
    assert torch.equal(following, busy.normal((4,)))
    assert not any(torch.equal(following, other) for other in (first, second))


def test_shared_generators_agree_on_all_ranks() -> None:
    a, b = (Rng(0, first_example=first, global_batch_size=512).stream("x").shared_generator() for first in (0, 256))
    assert torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b))


def test_the_global_generator_is_not_used(law) -> None:
    before = torch.get_rng_state()
    law(Rng(0).stream("x"), (10, 2))
    Rng(0).stream("x").shared_generator()
    assert torch.equal(before, torch.get_rng_state())


def test_generators_are_created_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Generator", None)
    Rng(0).stream("x").fork()


def test_normal_moments() -> None:
    """Mean, variance, fourth moment and correlation of neighbours, 2e5 numbers; false alarm 6e-7 for each of 4."""
    z = Rng(11).stream("noise").normal((50_000, 4), F64)
    n = z.numel()
    assert abs(z.mean().item()) < 5 / math.sqrt(n)
    assert abs(z.var().item() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**4).mean().item() - 3) < 5 * math.sqrt(96 / n)
    assert abs((z[1:] * z[:-1]).mean().item()) < 5 / math.sqrt(n)


def test_uniform_distribution() -> None:
    """Largest deviation of the distribution function, 1e5 numbers; false alarm 1e-6 (Dvoretzky, Kiefer, Wolfowitz)."""
    for dtype in (torch.float32, F64):
        u = Rng(12).stream("noise").uniform((100_000,), dtype).double().sort().values
        n = len(u)
        grid = torch.arange(n, dtype=F64) / n
        assert (u - grid).abs().max() < math.sqrt(math.log(2 / 1e-6) / (2 * n)) + 1 / n
        assert u.min() >= 0
        assert u.max() < 1


def test_randint_is_uniform() -> None:
    """7 values, 7e4 draws, chi square with 6 degrees: above 40 once in 2e6."""
    counts = Rng(13).stream("noise").randint(7, (70_000,)).bincount(minlength=7).double()
    assert len(counts) == 7
    assert ((counts - 1e4) ** 2 / 1e4).sum() < 40


def test_streams_are_uncorrelated() -> None:
    """Largest correlation among 40 streams of 20,000; each exceeds 6 / sqrt(n) with chance 2e-9: false alarm 2e-6."""
    draws = Rng(14)
    streams = [draws.stream(purpose, step).normal((20_000,)) for purpose in ("noise", "path") for step in range(10)]
    streams += [draws.fold_in("leaf", i).stream("noise").normal((20_000,)) for i in range(10)]
    streams += [Rng(i).stream("noise").normal((20_000,)) for i in range(10)]
    correlation = torch.corrcoef(torch.stack(streams)) - torch.eye(40)
    assert correlation.abs().max() < 6 / math.sqrt(20_000)


def test_seeds_are_stable_hashes_of_addresses() -> None:
    """A fixed value: a change would move the samples of every recorded seed."""
    assert hash_seed(0, "simulate", 0, 0, 0) == 64371136767929886
    assert 0 <= hash_seed("x") < 2**56


def test_categorical_inverts_the_distribution_function() -> None:
    weights = f64(0.0, 1.0, 0.0, 3.0, 0.0)
    u = f64(0.0, 0.2499, 0.25, 0.9999, 1 - 2**-53)
    assert categorical(weights, u).tolist() == [1, 1, 3, 3, 3]
    batch = torch.stack([weights, weights.flip(0)])
    assert categorical(batch, f64(0.5, 0.5)).tolist() == [3, 1]
    assert categorical(batch[:, None].expand(2, 4, 5), torch.full((2, 4), 0.5, dtype=F64)).shape == (2, 4)


def test_categorical_shares_are_exact_on_a_uniform_grid() -> None:
    """Midpoints of 1000 equal cells give each symbol its share to one cell."""
    weights = torch.tensor([0.1, 0.2, 0.05, 0.65], dtype=F64)
    u = (torch.arange(1000, dtype=F64) + 0.5) / 1000
    assert categorical(weights, u).bincount().tolist() == [100, 200, 50, 650]


def test_categorical_draws_tokens_of_probability_1e_12() -> None:
    """In float32 its weight, and every uniform number that falls on it, would vanish."""
    weights = f64(1.0, 1e-12)
    assert categorical(weights, f64(1 - 0.5e-12)).item() == 1
    assert categorical(weights, f64(1 - 2e-12)).item() == 0
    assert categorical(weights.float(), f64(1 - 0.5e-12)).item() == 1  # the weights may come in float32
    finest = Rng(0).stream("x").uniform((10_000,), F64)
    assert (finest * 2**24 % 1 != 0).any()  # our uniforms have digits below float32's grid


def test_streams_carry_first_example_and_batch_size() -> None:
    draw = Rng(1, first_example=3, global_batch_size=9).fold_in("a").stream("b", 2)
    assert isinstance(draw, RandomStream)
    assert (draw.first_example, draw.global_batch_size) == (3, 9)


@pytest.mark.parametrize("chance", [0.0, 1e-4, 0.013, 0.1, 0.5, 1.0])
def test_bernoulli_samples_are_independent(chance: float) -> None:
    """Share of heads, and of heads after heads, in 512 x 1,000 coins; five deviations, false alarm 6e-7 each."""
    heads = Rng(0).stream("coins").bernoulli(chance, (512, 1000))
    pairs = heads[:, 1:] & heads[:, :-1]
    for seen, expected in ((heads, chance), (pairs, chance**2), (heads[:, -1:], chance), (heads[:, :1], chance)):
        n = seen.numel()
        assert abs(seen.double().mean().item() - expected) <= 5 * math.sqrt(expected * (1 - expected) / n) + 1 / n


def test_bernoulli_samples_do_not_depend_on_batch_and_padding() -> None:
    for chance in (0.001, 0.09, 0.4):
        whole = Rng(0).stream("coins").bernoulli(chance, (300, 200))
        for first, last in ((0, 7), (250, 300)):
            part = Rng(0, first).stream("coins").bernoulli(chance, (last - first, 200))
            assert torch.equal(part, whole[first:last])
        for n in (3, 40, 150):
            assert torch.equal(Rng(0).stream("coins").bernoulli(chance, (300, n)), whole[:, :n])
    following = []
    for chance in (0.02, 0.4):
        draw = Rng(0).stream("coins")
        draw.bernoulli(chance, (3, 200))
        following.append(draw.uniform((3,)))
    assert torch.equal(*following)
