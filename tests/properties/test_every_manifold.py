"""Properties of every manifold, and of products."""

import pytest
import torch

from feller.core.pytree import State, leaves, tree_map
from feller.core.rng import Rng
from feller.evaluation.conformance import check_manifold
from feller.spaces import SPD, Manifold, Poincare, Product, Sphere, Torus, se3
from feller.spaces.product import space_map
from tests.properties.examples import ManifoldCase, cases

F32, F64 = torch.float32, torch.float64
PRODUCT = Product({"a": Sphere(3, (2,)), "b": Product({"c": Torus((2,)), "d": SPD(2)}), "e": Poincare(2, (1, 2))})
PRODUCTS = [pytest.param(ManifoldCase(p), id=f"Product{i}") for i, p in enumerate((PRODUCT, se3((2,))))]
ALL = [*cases(Manifold), *PRODUCTS]
OPPOSITE = cases(Manifold, when=lambda case: case.opposite is not None)
PRECISIONS = {F64: 1e-9, F32: 2e-4}
"""Error that is allowed, for numbers around 1."""
precise = pytest.mark.parametrize(("dtype", "atol"), PRECISIONS.items(), ids=("double", "single"))


def points(case: ManifoldCase, n: int, seed: int = 0, dtype: torch.dtype = F64) -> State:
    x = case.kind.sample_base(n, Rng(seed).stream("points"))
    return case.kind.project(tree_map(lambda leaf: leaf.to(dtype), x))


def tangents(case: ManifoldCase, x: State, size: float = 1.0, seed: int = 0) -> State:
    """Return tangent vectors of a given length."""
    draw = Rng(seed).stream("tangents")
    v = case.kind.to_tangent(x, tree_map(lambda leaf: draw.normal(leaf.shape, F64).to(leaf), x))
    length = case.kind.norm(x, v)
    return tree_map(lambda leaf: size * leaf / length.view(-1, *[1] * (leaf.ndim - 1)), v)


def scale(s: float, v: State) -> State:
    return tree_map(lambda leaf: s * leaf, v)


def add(v: State, w: State) -> State:
    return tree_map(torch.add, v, w)


def close(ours: State, theirs: State, atol: float) -> None:
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=atol, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(Manifold))
def test_a_thousand_steps_stay_on_the_manifold(case: ManifoldCase) -> None:
    """Rounding does not add up; on facets, where each step begins with a projection, 100 must do."""
    m, x, size, steps = case.kind, points(case, 4, dtype=F32), 0.03, 100 if case.facets else 1000
    draw = Rng(0).stream("steps")
    noise = tree_map(lambda leaf: draw.normal((4, *leaf.shape[1:], steps)), x)
    for i in range(steps):
        v = m.to_tangent(x, tree_map(lambda leaf, i=i: leaf[..., i], noise))
        length = m.norm(x, v)
        x = m.step(x, tree_map(lambda leaf, n=length: size * leaf / n.view(-1, *[1] * (leaf.ndim - 1)), v))
    assert m.constraint_error(x).max() <= 1e-6


@precise
@pytest.mark.parametrize("case", OPPOSITE)
def test_cut_locus(case: ManifoldCase, dtype: torch.dtype, atol: float) -> None:
    m, x = case.kind, points(case, 20, 0, dtype)
    y = case.opposite(x)
    v = m.log(x, y)
    assert torch.equal(v, m.log(x, y))
    close(m.norm(x, v), m.distance(x, y), atol)
    assert m.distance(m.exp(x, v), y).max() < 10 * atol
    carried = m.transport(x, y, v)
    close(m.norm(y, carried), m.norm(x, v), atol)
    leaf = y.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(m.log(x, leaf).sum() + m.distance(x, leaf).sum(), leaf)
    assert gradient.isfinite().all()
    assert m.log_differential(x, y, tangents(case, y)).isfinite().all()


def _entries(x: State) -> list[tuple[int, int]]:
    return [(i, j) for i, leaf in enumerate(leaves(x)) for j in range(leaf[0].numel())]


def _unit(x: State, entry: tuple[int, int]) -> State:
    """Return the same state with a 1 at one entry of one leaf, and 0 elsewhere."""
    count = iter(range(len(list(leaves(x)))))

    def one(leaf: torch.Tensor) -> torch.Tensor:
        flat = torch.zeros_like(leaf).flatten(1)
        if next(count) == entry[0]:
            flat[:, entry[1]] = 1
        return flat.view(leaf.shape)

    return tree_map(one, x)


@pytest.mark.parametrize("case", ALL)
def test_whitened_probes_give_the_trace(case: ManifoldCase) -> None:
    """<d, v> is the metric's product of w and v, up to a constant; w over all axes add up to the trace of a field."""
    m, x = case.kind, points(case, 20)

    def white(z: State) -> tuple[State, State]:
        pairs = space_map(lambda part, x, z: part.whiten_probe(x, z), m, x, z)
        return tree_map(lambda pair: pair[0], pairs), tree_map(lambda pair: pair[1], pairs)

    def dot(a: State, b: State) -> torch.Tensor:
        return sum((p * q).flatten(1).sum(1) for p, q in zip(leaves(a), leaves(b), strict=True))

    draw = Rng(5).stream("noise")
    a, b = (tree_map(lambda leaf: draw.normal((1, *leaf.shape[1:]), F64), x) for _ in range(2))

    def field(x: State) -> State:
        return m.to_tangent(x, tree_map(lambda x, a, b: b + a * torch.sin(x + a), x, a, b))

    trace = expected = torch.zeros(20, dtype=F64)
    for name in _entries(x):
        unit = _unit(x, name)
        (w, d), e = white(unit), m.to_tangent(x, unit)
        trace = trace + dot(d, torch.func.jvp(field, (x,), (w,))[1])
        expected = expected + dot(e, torch.func.jvp(field, (x,), (e,))[1])
    close(trace, expected, 1e-7 * (1 + float(expected.abs().max())))
    if not isinstance(m, Product):
        v, (w, d) = tangents(case, x, seed=1), white(tree_map(lambda leaf: draw.normal(leaf.shape, F64), x))
        product = (m.norm(x, add(w, v)) ** 2 - m.norm(x, add(w, scale(-1, v))) ** 2) / 4
        close(dot(d, v) / product, (dot(d, v) / product)[:1].expand(20), 1e-6)


@pytest.mark.parametrize("case", ALL)
def test_conforms(case: ManifoldCase) -> None:
    check_manifold(case.kind, smooth=not case.facets)
