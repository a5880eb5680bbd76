"""Properties of every path."""

import math

import pytest
import torch
from torch import Tensor

from feller.core.pytree import State, leaves, tree_map
from feller.core.rng import Rng
from feller.evaluation.conformance import check_path
from feller.paths import Affine, Path
from feller.paths.brownian import BrownianBridge
from feller.paths.processes import Characteristics
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler
from feller.spaces import Euclidean
from tests.oracle import F64, Normal, chain, close, f64
from tests.properties.examples import PathCase, cases

EVERY = cases(Path)
PATHS = cases(Path, when=lambda case: case.moves)
N = 6
T = torch.linspace(0.15, 0.85, N, dtype=F64)


def ends(case: PathCase, n: int = N) -> tuple[State, State]:
    return case.ends(n, Rng(0).stream("ends"))


def at(case: PathCase, t: Tensor, n: int = N, first: int = 0) -> State:
    """Return X_t between the endpoints of the case, with the same noise at every call."""
    part = [tree_map(lambda leaf: leaf[first : first + len(t)], end) for end in ends(case, n)]
    return case.kind.sample(*part, t, Rng(1, first).stream("path"))


def same(a: State, b: State, tolerance: float = 0.0) -> None:
    for x, y in zip(leaves(a), leaves(b), strict=True):
        close(x.double(), y.double(), tolerance)


def certain(case: PathCase, x_t: State, x_0: State, x_1: State, t: Tensor) -> State:
    """Return the characteristics of a network that is certain of the target."""
    return case.kind.characteristics(case.answer(case.kind.target(x_t, x_0, x_1, t)), x_t, t)


def pairs(*trees: State) -> list[tuple]:
    """Return the corresponding leaves of several trees, with Characteristics as leaves."""
    return list(zip(*(list(leaves(tree)) for tree in trees), strict=True))


@pytest.mark.parametrize("case", PATHS)
def test_velocity_and_hazard_of_the_true_prediction(case: PathCase) -> None:
    """Of a real leaf without noise the velocity is d/dt of the sample; of tokens the hazard is that of the coins.

    Tokens that are not coins are the data at t = 1; what they are before is tested by the law of the process below.

    A noise level changes the drift by g^2 / 2 times the score of the conditional path.
    """
    x_0, x_1 = ends(case)
    x_t = at(case, T)
    h = 1e-6
    slope = tree_map(lambda a, b: (a.double() - b.double()) / (2 * h), at(case, T + h), at(case, T - h))
    path_of = case.kind.leaf_paths if hasattr(case.kind, "leaf_paths") else None
    for name in path_of or [None]:
        path = path_of[name] if path_of else case.kind
        pick = (lambda tree, name=name: tree[name]) if path_of else (lambda tree: tree)
        now = pick(certain(case, x_t, x_0, x_1, T))
        if now.velocity is not None:
            expected = pick(slope)
            if now.diffusion is not None:
                expected = expected + now.diffusion / 2 * score(path, pick(x_t), pick(x_0), pick(x_1))
            close(now.velocity, expected, case.accuracy)
        if now.jumps is not None and not getattr(path, "has_uniform_hazard", True):
            who = torch.ones_like(pick(x_t), dtype=torch.bool)
            assert (now.jumps.hazard(1.0) == math.inf).all()
            assert torch.equal(now.jumps.sample_destination(1.0, who, Rng(0).stream("x")), pick(x_1)[who])
        elif now.jumps is not None:
            scales = path.schedule(T)
            later = path.schedule(torch.full_like(T, 0.9))
            keep = torch.exp(-now.jumps.hazard(0.9))
            stays = keep == 1
            close(keep[~stays], (later.sigma / scales.sigma)[:, None].expand(keep.shape)[~stays], 1e-12)
            assert torch.equal(pick(x_t)[stays], pick(x_1)[stays])
            who = torch.ones_like(pick(x_t), dtype=torch.bool)
            assert torch.equal(now.jumps.sample_destination(0.9, who, Rng(0).stream("x")), pick(x_1)[who])


def score(path: Path, x_t: Tensor, x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return the conditional score of X_t given the endpoints."""
    if isinstance(path, BrownianBridge):
        t = T[:, None]
        return ((1 - t) * x_0 + t * x_1 - x_t) / (path.noise**2 * t * (1 - t))
    return -x_0 / torch.as_tensor(path.schedule(T).sigma)[:, None]


@pytest.mark.parametrize("case", cases(Path, when=lambda case: isinstance(case.kind, Affine)))
def test_process_keeps_the_marginals(case: PathCase) -> None:
    """Exact moments of Euler chains for normal data, extrapolated to no step; 0.1 and 0.9 keep off infinite slopes."""
    path, data = case.kind, Normal(case.kind.schedule)
    process = path.process(lambda x, t, given: data.predict(path.prediction, x, t), {})
    coarse, fine = (f64(*chain(Euler(), process, linear_grid(n, 0.1, 0.9), *data.moments(0.1))) for n in (40, 80))
    size = max(1.0, *data.moments(0.1))
    close((2 * fine - coarse) / size, f64(*data.moments(0.9)) / size, 2e-2 if path.noise else 1e-2)
    close(fine / size, f64(*data.moments(0.9)) / size, 0.1)


@pytest.mark.parametrize("case", cases(Path, when=lambda case: case.meets_ends))
def test_ends_are_the_source_and_the_data(case: PathCase) -> None:
    x_0, x_1 = ends(case)
    same(at(case, torch.zeros(N, dtype=F64)), case.kind.initial_state(x_0), 1e-15)
    same(at(case, torch.ones(N, dtype=F64)), x_1, 1e-12)


@pytest.mark.parametrize("case", cases(Path, when=lambda case: case.mixes))
def test_start_is_the_source_at_time_zero(case: PathCase) -> None:
    """Up to what alpha_0 adds: with data at zero there is nothing to add."""
    x_0, x_1 = ends(case)
    if all(leaf.is_floating_point() for leaf in leaves(x_1)):
        zero = tree_map(torch.zeros_like, x_1)
        same(
            case.kind.sample(x_0, zero, torch.zeros(N, dtype=F64), Rng(0).stream("path")),
            case.kind.initial_state(x_0),
            1e-12,
        )


@pytest.mark.parametrize("case", EVERY)
def test_samples_do_not_depend_on_the_batch(case: PathCase) -> None:
    same(at(case, T), at(case, T))
    t = torch.full((300,), 0.5, dtype=F64)
    whole = at(case, t, 300)
    parts = [at(case, t[: b - a], 300, a) for a, b in ((0, 7), (7, 256), (256, 300))]
    same(whole, tree_map(lambda *leaf: torch.cat(leaf), *parts), 0.0 if case.mixes else 1e-14)


@pytest.mark.parametrize("case", cases(Path, when=lambda case: case.mixes and case.moves))
def test_times_broadcast_along_the_batch(case: PathCase) -> None:
    """Also where the state is square, [b, b]: each row equals that row alone."""
    x_0, x_1 = ends(case, 3)

    def square(leaf: Tensor) -> Tensor:
        return leaf[:, :1].expand(3, 3).contiguous()

    x_0, x_1 = tree_map(square, x_0), tree_map(square, x_1)
    t = f64(0.1, 0.5, 0.9)
    x_t = case.kind.sample(x_0, x_1, t, Rng(0).stream("path"))
    now = certain(case, x_t, x_0, x_1, t)
    for row in range(3):
        one = [tree_map(lambda leaf, row=row: leaf[row : row + 1], tree) for tree in (x_t, x_0, x_1)]
        alone = case.kind.sample(*one[1:], t[row : row + 1], Rng(0, row).stream("path"))
        same(alone, one[0])
        for together, single in pairs(now, certain(case, *one, t[row : row + 1])):
            compare_row(together, single, row)


def compare_row(together: Characteristics, single: Characteristics, row: int) -> None:
    for part in ("velocity", "diffusion"):
        if getattr(together, part) is not None:
            value = getattr(together, part)
            value = value.expand(3, *value.shape[1:])  # a diffusion may be one for all
            close(value[row : row + 1], getattr(single, part), 1e-12)
    if together.jumps is not None:
        close(together.jumps.hazard(0.95)[row : row + 1], single.jumps.hazard(0.95), 1e-12)


@pytest.mark.parametrize("case", PATHS)
def test_meta_device(case: PathCase) -> None:
    x_0, x_1 = (tree_map(lambda leaf: leaf.to("meta"), end) for end in ends(case))
    t = T.to("meta")
    target = case.kind.target(x_1, x_0, x_1, t)
    assert [leaf.shape for leaf in leaves(target)] == [leaf.shape for leaf in leaves(x_1)]
    if not case.draws:
        x_t = case.kind.sample(x_0, x_1, t)
        assert x_t.device.type == "meta"
        assert case.kind.characteristics(target, x_t, t).velocity.shape == x_t.shape


@pytest.mark.parametrize("case", PATHS)
def test_conforms(case: PathCase) -> None:
    space = getattr(case.kind, "space", Euclidean())
    check_path(case.kind, space, sample_endpoints=case.ends, certain_prediction=case.answer, accuracy=case.accuracy)
