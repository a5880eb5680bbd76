"""What every manifold keeps: geodesics, tangent vectors, volume; products of manifolds too."""

import math
from collections.abc import Callable

import pytest
import torch

from feller.core.pytree import State, leaves, tree_map
from feller.core.rng import Draws
from feller.spaces import SPD, Manifold, Poincare, Product, Simplex, Sphere, Torus, se3
from feller.spaces.product import space_map
from tests.properties.examples import ManifoldCase, cases

F32, F64 = torch.float32, torch.float64
PRODUCT = Product({"a": Sphere(3, (2,)), "b": Product({"c": Torus((2,)), "d": SPD(2)}), "e": Poincare(2, (1, 2))})
PRODUCTS = [pytest.param(ManifoldCase(p), id=f"Product{i}") for i, p in enumerate((PRODUCT, se3((2,))))]
ALL = [*cases(Manifold), *PRODUCTS]
SMOOTH = [*cases(Manifold, when=lambda case: not case.facets), *PRODUCTS]
OPPOSITE = cases(Manifold, when=lambda case: case.opposite is not None)
PRECISIONS = {F64: 1e-9, F32: 2e-4}
"""Error that is allowed, for numbers around 1."""
precise = pytest.mark.parametrize(("dtype", "atol"), PRECISIONS.items(), ids=("double", "single"))


def points(case: ManifoldCase, n: int, seed: int = 0, dtype: torch.dtype = F64) -> State:
    x = case.kind.reference(n, Draws(seed).at("points"))
    return case.kind.project(tree_map(lambda leaf: leaf.to(dtype), x))


def tangents(case: ManifoldCase, x: State, size: float = 1.0, seed: int = 0) -> State:
    """Return tangent vectors of a given length."""
    draw = Draws(seed).at("tangents")
    v = case.kind.tangent(x, tree_map(lambda leaf: draw.normal(leaf.shape, F64).to(leaf), x))
    length = case.kind.length(x, v)
    return tree_map(lambda leaf: size * leaf / length.view(-1, *[1] * (leaf.ndim - 1)), v)


def scale(s: float, v: State) -> State:
    return tree_map(lambda leaf: s * leaf, v)


def add(v: State, w: State) -> State:
    return tree_map(torch.add, v, w)


def gradients(value: State, at: State) -> tuple[torch.Tensor, ...]:
    """Return the derivatives of a sum of all numbers; zero where they do not depend on the leaf."""
    total = sum(leaf.sum() for state in (value, scale(0, at)) for leaf in leaves(state))
    return torch.autograd.grad(total, list(leaves(at)))


def close(ours: State, theirs: State, atol: float) -> None:
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=atol, atol=atol)


def near(case: ManifoldCase, ours: State, theirs: State, atol: float) -> None:
    """Compare points: angles around 0 may differ by a turn."""
    assert case.kind.distance(ours, theirs).max() < atol


@precise
@pytest.mark.parametrize("case", SMOOTH)
def test_log_undoes_exp(case: ManifoldCase, dtype: torch.dtype, atol: float) -> None:
    m, x, y = case.kind, points(case, 20, 0, dtype), points(case, 20, 1, dtype)
    v = m.log(x, y)
    near(case, m.exp(x, v), y, 5 * atol)
    close(m.log(x, m.exp(x, scale(0.5, v))), scale(0.5, v), atol)


@precise
@pytest.mark.parametrize("case", SMOOTH)
def test_geodesics_are_shortest_and_steady(case: ManifoldCase, dtype: torch.dtype, atol: float) -> None:
    m, x, y = case.kind, points(case, 20, 0, dtype), points(case, 20, 1, dtype)
    v, whole = m.log(x, y), m.distance(x, y)
    close(m.length(x, v), whole, atol)
    for s in (0.25, 0.75):
        z = m.exp(x, scale(s, v))
        close(m.distance(x, z), s * whole, atol)
        close(m.distance(z, y), (1 - s) * whole, atol)


@pytest.mark.parametrize("case", SMOOTH)
def test_geodesics_are_straight(case: ManifoldCase) -> None:
    """The speed, by differences, is the first velocity carried along: exp, log and transport agree on the metric."""
    m, x, y, e = case.kind, points(case, 10), points(case, 10, 1), 1e-5
    v = m.log(x, y)
    z, before, after = (m.exp(x, scale(s, v)) for s in (0.6, 0.6 - e, 0.6 + e))
    speed = tree_map(lambda a, b: (a - b) / (2 * e), after, before)
    close(speed, m.transport(x, z, v), 1e-6)


@precise
@pytest.mark.parametrize("case", ALL)
def test_distance_is_a_metric(case: ManifoldCase, dtype: torch.dtype, atol: float) -> None:
    m, x, y, z = case.kind, *(points(case, 30, seed, dtype) for seed in range(3))
    close(m.distance(x, y), m.distance(y, x), atol)
    assert (m.distance(x, z) <= m.distance(x, y) + m.distance(y, z) + atol).all()
    assert (m.distance(x, y) > 0).all()
    assert not m.distance(x, x).any()


@precise
@pytest.mark.parametrize("case", ALL)
def test_projections(case: ManifoldCase, dtype: torch.dtype, atol: float) -> None:
    """Twice is once; points of the source stay; log is tangent; a point beside the manifold comes onto it."""
    m, draw = case.kind, Draws(3).at("noise")
    x, y = points(case, 20, 0, dtype), points(case, 20, 1, dtype)
    assert m.error(m.reference(20, Draws(0).at("points"))).max() < 2e-6
    close(m.project(x), x, atol)
    assert m.error(m.exp(x, tangents(case, x))).max() < atol
    off = tree_map(lambda leaf: leaf + 0.1 * draw.normal(leaf.shape, F64).to(leaf), x)
    close(m.project(m.project(off)), m.project(off), atol)
    assert m.error(m.project(off)).max() < atol
    v = m.tangent(x, tree_map(torch.ones_like, x))
    close(m.tangent(x, v), v, atol)
    close(m.tangent(x, m.log(x, y)), m.log(x, y), atol)


@precise
@pytest.mark.parametrize("case", ALL)
def test_transport_keeps_inner_products(case: ManifoldCase, dtype: torch.dtype, atol: float) -> None:
    m, x, y = case.kind, points(case, 20, 0, dtype), points(case, 20, 1, dtype)
    v, w = tangents(case, x), tangents(case, x, seed=1)
    there, also = m.transport(x, y, v), m.transport(x, y, w)
    close(m.length(y, there), m.length(x, v), atol)
    close(m.length(y, add(there, also)), m.length(x, add(v, w)), atol)
    close(m.tangent(y, there), there, atol)
    close(m.transport(x, x, v), v, atol)
    if not case.facets:
        close(m.transport(x, y, m.log(x, y)), scale(-1, m.log(y, x)), 5 * atol)
        close(m.transport(y, x, there), v, 5 * atol)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(Manifold))
def test_a_thousand_steps_stay_on_it(case: ManifoldCase) -> None:
    """Rounding does not add up; on facets, where each step begins with a projection, 100 must do."""
    m, x, size, steps = case.kind, points(case, 4, dtype=F32), 0.03, 100 if case.facets else 1000
    draw = Draws(0).at("steps")
    noise = tree_map(lambda leaf: draw.normal((4, *leaf.shape[1:], steps)), x)
    for i in range(steps):
        v = m.tangent(x, tree_map(lambda leaf, i=i: leaf[..., i], noise))
        length = m.length(x, v)
        x = m.step(x, tree_map(lambda leaf, n=length: size * leaf / n.view(-1, *[1] * (leaf.ndim - 1)), v))
    assert m.error(x).max() <= 1e-6


@precise
@pytest.mark.parametrize("case", ALL)
def test_derivatives_at_zero(case: ManifoldCase, dtype: torch.dtype, atol: float) -> None:
    """At v = 0 and y = x, where formulas divide zero by zero, backwards and forwards; log there is the identity."""
    m, x = case.kind, points(case, 10, 0, dtype)
    v = tangents(case, x)
    functions = (
        lambda y: m.exp(x, tree_map(torch.sub, y, x)),
        lambda y: m.log(x, y),
        lambda y: m.log(y, x),
        lambda y: m.transport(x, y, v),
        lambda y: m.distance(x, y),
        lambda y: m.length(x, tree_map(torch.sub, y, x)),
        m.project,
    )
    for function in functions:
        leaf = tree_map(lambda y: y.clone().requires_grad_(), x)
        assert all(gradient.isfinite().all() for gradient in gradients(function(leaf), leaf))
    close(torch.func.jvp(lambda v: m.exp(x, v), (scale(0, v),), (v,))[1], v, atol)
    close(m.pull(x, x, v), v, atol)
    if not case.facets:
        close(torch.func.jvp(lambda y: m.log(x, y), (x,), (v,))[1], v, atol)
        leaf = tree_map(lambda y: y.clone().requires_grad_(), x)
        assert all(gradient.isfinite().all() for gradient in gradients(m.pull(x, leaf, v), leaf))


@pytest.mark.parametrize("case", SMOOTH)
@pytest.mark.parametrize("size", [1e-3, 0.3])
def test_pull_is_the_rate_of_log(case: ManifoldCase, size: float) -> None:
    m, x, e = case.kind, points(case, 10), 1e-5
    y = m.exp(x, tangents(case, x, 0.1 * size))
    w = tangents(case, y, 0.1, seed=1)
    rate = tree_map(lambda a, b: (a - b) / (2 * e), m.log(x, m.exp(y, scale(e, w))), m.log(x, m.exp(y, scale(-e, w))))
    close(m.pull(x, y, w), rate, 1e-6)


@precise
@pytest.mark.parametrize("case", OPPOSITE)
def test_opposite_points(case: ManifoldCase, dtype: torch.dtype, atol: float) -> None:
    """One of the geodesics is chosen, the same each time; nothing is not a number, nor are derivatives."""
    m, x = case.kind, points(case, 20, 0, dtype)
    y = case.opposite(x)
    v = m.log(x, y)
    assert torch.equal(v, m.log(x, y))
    close(m.length(x, v), m.distance(x, y), atol)
    near(case, m.exp(x, v), y, 10 * atol)
    carried = m.transport(x, y, v)
    close(m.length(y, carried), m.length(x, v), atol)
    leaf = y.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(m.log(x, leaf).sum() + m.distance(x, leaf).sum(), leaf)
    assert gradient.isfinite().all()
    assert m.pull(x, y, tangents(case, y)).isfinite().all()


@pytest.mark.parametrize("case", SMOOTH)
def test_divergence_and_source_agree(case: ManifoldCase) -> None:
    """The mean of div f + f . grad log p is 0 under p, for any field f that does not cross a boundary.

    This binds source, density, tangent spaces and volume together. 3,000 points; 5 deviations, false alarm 6e-7.
    """
    m, x = case.kind, points(case, 3000)
    draw = Draws(0).at("field")
    a, b = (tree_map(lambda leaf: draw.normal((1, *leaf.shape[1:]), F64), x) for _ in range(2))

    def field(x: State) -> State:
        w = tree_map(lambda x, a, b: b + a * torch.sin(x + a), x, a, b)
        return x * (w - (x * w).sum(-1, keepdim=True)) if isinstance(m, Simplex) else m.tangent(x, w)

    total = m.volume_drift(x, field(x))
    for name in _entries(x):
        d = m.tangent(x, _unit(x, name))
        change = torch.func.jvp(field, (x,), (d,))[1]
        total = total + sum((p * q).flatten(1).sum(1) for p, q in zip(leaves(d), leaves(change), strict=True))
    e = 1e-5
    ends = (m.log_reference(m.exp(x, scale(s, field(x)))) for s in (e, -e))
    mean = total + (next(ends) - next(ends)) / (2 * e)
    assert mean.std() > 1e-3 or mean.abs().max() < 1e-6
    assert abs(mean.mean().item()) <= 5 * mean.std().item() / math.sqrt(3000) + 1e-8


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
def test_white_vectors_and_their_duals(case: ManifoldCase) -> None:
    """<d, v> is the metric's product of w and v, up to a constant; w over all axes add up to the trace of a field."""
    m, x = case.kind, points(case, 20)

    def white(z: State) -> tuple[State, State]:
        pairs = space_map(lambda part, x, z: part.white(x, z), m, x, z)
        return tree_map(lambda pair: pair[0], pairs), tree_map(lambda pair: pair[1], pairs)

    def dot(a: State, b: State) -> torch.Tensor:
        return sum((p * q).flatten(1).sum(1) for p, q in zip(leaves(a), leaves(b), strict=True))

    draw = Draws(5).at("noise")
    a, b = (tree_map(lambda leaf: draw.normal((1, *leaf.shape[1:]), F64), x) for _ in range(2))

    def field(x: State) -> State:
        return m.tangent(x, tree_map(lambda x, a, b: b + a * torch.sin(x + a), x, a, b))

    trace = expected = torch.zeros(20, dtype=F64)
    for name in _entries(x):
        unit = _unit(x, name)
        (w, d), e = white(unit), m.tangent(x, unit)
        trace = trace + dot(d, torch.func.jvp(field, (x,), (w,))[1])
        expected = expected + dot(e, torch.func.jvp(field, (x,), (e,))[1])
    close(trace, expected, 1e-7 * (1 + float(expected.abs().max())))
    if not isinstance(m, Product):
        v, (w, d) = tangents(case, x, seed=1), white(tree_map(lambda leaf: draw.normal(leaf.shape, F64), x))
        product = (m.length(x, add(w, v)) ** 2 - m.length(x, add(w, scale(-1, v))) ** 2) / 4
        close(dot(d, v) / product, (dot(d, v) / product)[:1].expand(20), 1e-6)


@pytest.mark.parametrize("case", ALL)
def test_inputs_are_left_alone_and_kinds_are_kept(case: ManifoldCase) -> None:
    for dtype in (F32, F64):
        m, x, y = case.kind, points(case, 4, 0, dtype), points(case, 4, 1, dtype)
        v = tangents(case, x, 0.1)
        kept = [leaf.clone() for state in (x, y, v) for leaf in leaves(state)]
        states = m.exp(x, v), m.log(x, y), m.transport(x, y, v), m.project(x), m.tangent(x, v), m.pull(x, y, v)
        numbers = m.length(x, v), m.distance(x, y), m.log_reference(x), m.volume_drift(x, v), m.error(x)
        for state in states:
            for ours, theirs in zip(leaves(state), leaves(x), strict=True):
                assert (ours.dtype, ours.shape) == (dtype, theirs.shape)
        assert all((number.dtype, number.shape) == (dtype, (4,)) for number in numbers)
        now = [leaf for state in (x, y, v) for leaf in leaves(state)]
        assert all(torch.equal(a, b) for a, b in zip(now, kept, strict=True))


@pytest.mark.parametrize("case", SMOOTH)
def test_vmap_and_meta(case: ManifoldCase) -> None:
    m, x, y = case.kind, points(case, 4), points(case, 4, 1)
    v = tangents(case, x, 0.1)

    arguments = (m.exp, (x, v)), (m.log, (x, y)), (m.transport, (x, y, v))
    for function, states in arguments:

        def single(*states: State, function: Callable[..., State] = function) -> State:
            batches = (tree_map(lambda leaf: leaf[None], state) for state in states)
            return tree_map(lambda leaf: leaf[0], function(*batches))

        close(torch.vmap(single)(*states), function(*states), 1e-12)
        abstract = function(*(tree_map(lambda leaf: leaf.to("meta"), state) for state in states))
        assert all(a.shape == b.shape and a.is_meta for a, b in zip(leaves(abstract), leaves(x), strict=True))


def test_dimension_counts_the_tangent_space() -> None:
    """The rank of the tangent projection, at a point."""
    for parameter in SMOOTH:
        case = parameter.values[0]
        x = points(case, 1)
        rows = [torch.cat([leaf.flatten() for leaf in leaves(case.kind.tangent(x, _unit(x, e)))]) for e in _entries(x)]
        assert torch.linalg.matrix_rank(torch.stack(rows), atol=1e-9).item() == case.kind.dimension
