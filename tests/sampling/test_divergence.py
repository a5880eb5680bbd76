"""Exact and Hutchinson divergence estimates."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.sampling import Divergence, ExactDivergence, GaussianProbe, Hutchinson, RademacherProbe
from feller.sampling.divergence import default_divergence
from feller.spaces import SO3, SPD, Euclidean, Poincare, Product, Simplex, Space, Sphere
from tests.errors import refuses
from tests.oracle import F64, close, f64

A = f64(1, 2, 3, -4).view(2, 2)
"""Trace -3; its symmetric part has 2.5 beside the diagonal."""
PROBES = Rng(0).stream("probe")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Rng(seed).stream("x").normal(shape, F64)


def linear(x: Tensor) -> Tensor:
    return x @ A.T


def curved(x: Tensor) -> Tensor:
    """Return a nonlinear function of all entries of an example, of any shape."""
    flat = x.flatten(1)
    mixing = normal(flat.shape[1], flat.shape[1], seed=1).to(x)
    return (torch.tanh(flat @ mixing) * flat.roll(1, 1)).view_as(x)


def traces(x: Tensor) -> Tensor:
    """Return the trace of the whole Jacobian of `curved`, example by example."""
    size = x[0].numel()
    return torch.stack(
        [torch.autograd.functional.jacobian(curved, row[None]).view(size, size).trace() for row in x.unbind()]
    )


def divergence(kind: Divergence, velocity, x, space: Space = Euclidean()) -> Tensor:  # noqa: B008
    return kind(velocity, x, kind.probes(x, Rng(0).stream("probe")), space)[1]


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (2, 3, 3)])
@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (torch.float32, 1e-4)])
def test_exact_is_the_trace_of_the_jacobian(shape, chunk, dtype, tolerance) -> None:
    x = normal(4, *shape).to(dtype)
    u, found = ExactDivergence(chunk)(curved, x, {})
    close(found.double(), traces(x.double()), tolerance)
    assert found.dtype == u.dtype == dtype
    assert torch.equal(u, curved(x))


def test_leaves_of_a_tree_add_up() -> None:
    """Each leaf counts its own derivative alone: 2 a + 3 b^2 of (a^2 + b, b^3 - a)."""
    x = {"a": normal(5, 2), "deeper": {"b": normal(5, 2, seed=1)}}

    def velocity(x):
        a, b = x["a"], x["deeper"]["b"]
        return {"a": a**2 + b, "deeper": {"b": b**3 - a}}

    expected = (2 * x["a"] + 3 * x["deeper"]["b"] ** 2).sum(1)
    for chunk in (1, 2):
        close(divergence(ExactDivergence(chunk), velocity, x), expected, 1e-13)
    close(divergence(Hutchinson(), velocity, x), expected, 1e-13)  # 1 and -1 beside the diagonal: no variance


def test_a_constant_leaf_has_no_divergence() -> None:
    x = {"a": normal(5, 2), "b": normal(5, 2, seed=1)}
    found = divergence(ExactDivergence(), lambda x: {"a": x["a"] * x["b"], "b": torch.zeros(5, 2, dtype=F64)}, x)
    close(found, x["b"].sum(1), 1e-14)


def test_one_probe_gives_the_quadratic_form() -> None:
    """z^T A z is -8 or 2: mean -3 and variance 25, to five standard errors of 40,000 draws."""
    n = 40_000
    found = divergence(Hutchinson(), linear, torch.zeros(n, 2, dtype=F64))
    assert set(found.tolist()) == {-8.0, 2.0}
    assert abs(found.mean().item() + 3) < 5 * 5 / math.sqrt(n)


@pytest.mark.parametrize(("law", "variance"), [(RademacherProbe(), 25.0), (GaussianProbe(), 59.0)])
@pytest.mark.parametrize(("count", "chunk"), [(1, 1), (4, 1), (4, 3)])
def test_moments_of_hutchinson_estimates(law, variance, count, chunk) -> None:
    """Mean -3; variance 2 sum S_ij^2, without the diagonal for Rademacher, over the number of probes.

    Five standard errors of 100,000 draws for the mean, and for the variance by the draws' fourth moment.
    """
    n = 100_000
    found = divergence(Hutchinson(count, law, chunk), linear, torch.zeros(n, 2, dtype=F64))
    away = found - found.mean()
    assert abs(found.mean().item() + 3) < 5 * math.sqrt(variance / count / n)
    spread = (away**4).mean() - (away**2).mean() ** 2
    assert abs((away**2).mean().item() - variance / count) < 5 * math.sqrt(spread.item() / n) + 1e-2


def test_hutchinson_is_exact_in_one_dimension() -> None:
    x = normal(50, 1)
    close(divergence(Hutchinson(), lambda x: torch.sin(x) * x, x), (x.cos() * x + x.sin())[:, 0], 1e-14)


def test_probes_do_not_depend_on_the_batch() -> None:
    kind = Hutchinson(3, GaussianProbe())
    x = normal(600, 2)
    whole = kind.probes(x, Rng(7).stream("probe"))
    some = kind.probes(x[250:300], replace(Rng(7), first_example=250).stream("probe"))
    assert torch.equal(whole[250:300], some)


@pytest.mark.parametrize("power", [0, 1, 3])
def test_divergence_on_the_sphere_is_intrinsic(power: int) -> None:
    """The tangent part of a constant a has divergence -2 <a, x>: 0.344 in the reference, section 12."""
    a, x = f64(0.3, -0.7, 0.2), torch.nn.functional.normalize(torch.cat([f64(0.6, 0.64, 0.48)[None], normal(20, 3)]))

    def velocity(x: Tensor) -> Tensor:
        return x.square().sum(-1, keepdim=True) ** power * (a - (x @ a)[:, None] * x)

    for kind in (ExactDivergence(), ExactDivergence(3)):
        found = divergence(kind, velocity, x, Sphere())
        close(found, -2 * x @ a, 1e-14)
        assert found[0].item() == pytest.approx(0.344, abs=1e-14)
    several = x[:1].expand(40_000, 3)
    found = divergence(Hutchinson(), velocity, several, Sphere())
    assert abs(found.mean().item() - 0.344) < 5 * found.std().item() / 200


def test_divergence_on_products() -> None:
    a = f64(0.3, -0.7, 0.2)
    x = {"way": torch.nn.functional.normalize(normal(7, 3)), "place": normal(7, 2)}
    space = Product({"way": Sphere(), "place": Euclidean((2,))})

    def velocity(x):
        return {"way": a - (x["way"] @ a)[:, None] * x["way"], "place": linear(x["place"]) * x["way"][:, :1]}

    close(divergence(ExactDivergence(), velocity, x, space), -2 * x["way"] @ a - 3 * x["way"][:, 0], 1e-13)


def test_second_order_graph_only_where_needed() -> None:
    x, weight = normal(4, 2), f64(2.0).requires_grad_()

    def weighted(x: Tensor) -> Tensor:
        return weight * x**2

    for kind in (ExactDivergence(), ExactDivergence(2), Hutchinson()):
        u, plain = kind(curved, x, kind.probes(x, PROBES))
        assert not u.requires_grad
        assert not plain.requires_grad
        with torch.no_grad():
            u, plain = kind(weighted, x, kind.probes(x, PROBES))
        assert not u.requires_grad
        assert not plain.requires_grad
        u, found = kind(weighted, x, kind.probes(x, PROBES))  # div = 2 w sum x
        (gradient,) = torch.autograd.grad(found.sum(), weight)
        close(gradient, 2 * x.sum(), 1e-13)
        (gradient,) = torch.autograd.grad(u.sum(), weight)
        close(gradient, (x**2).sum(), 1e-13)
        y = x.clone().requires_grad_()
        _, found = kind(lambda x: 3 * x**2, y, kind.probes(y, PROBES))
        (gradient,) = torch.autograd.grad(found.sum(), y)
        close(gradient, torch.full_like(y, 6.0), 1e-13)


@pytest.mark.parametrize("kind", [ExactDivergence(), ExactDivergence(2), Hutchinson(3), Hutchinson(3, chunk_size=2)])
def test_divergence_inside_vmap_of_grad(kind: Divergence) -> None:
    x = normal(5, 2)
    probes = kind.probes(x, PROBES)

    def one(weight: Tensor, x: Tensor, probes) -> Tensor:
        probes = probes[None] if isinstance(probes, Tensor) else probes
        return kind(lambda x: torch.sin(weight * x) * x.roll(1, 1), x[None], probes)[1][0]

    weight = f64(1.3)[0]
    together = torch.vmap(torch.func.grad(one), (None, 0, 0 if isinstance(probes, Tensor) else None))(weight, x, probes)
    for row in range(5):
        own = weight.clone().requires_grad_()
        one(own, x[row], probes[row] if isinstance(probes, Tensor) else probes).backward()
        close(together[row], own.grad, 1e-13)


def test_velocities_under_no_grad_are_refused() -> None:
    """Under no_grad the divergence would come out as 0."""

    def hidden(x: Tensor) -> Tensor:
        with torch.no_grad():
            return linear(x)

    with refuses(ValueError):
        ExactDivergence()(hidden, normal(3, 2), {})


def test_zero_probes_are_refused() -> None:
    """Without any the divergence would come out as 0."""
    for wrong in (lambda: Hutchinson(0), lambda: Hutchinson(2, chunk_size=0), lambda: ExactDivergence(0)):
        with refuses(ValueError, found="0"):
            wrong()


def test_leaves_may_share_memory() -> None:
    x = normal(4, 2)
    close(
        divergence(ExactDivergence(), lambda x: {k: v**2 for k, v in x.items()}, {"a": x, "b": x}), 4 * x.sum(1), 1e-13
    )


def test_hutchinson_on_spd_is_invariant_to_congruence() -> None:
    space = SPD(3)
    x, y = (space.project(space.sample_base(20, Rng(i).stream("x")).double()) for i in range(2))
    g = torch.tensor([[30.0, 0, 0], [2, 1, 0], [-1, 0.5, 0.01]], dtype=F64)
    kind = Hutchinson()
    probes = kind.probes(x, PROBES)
    near = kind(lambda x: space.log(x, y), x, probes, space)[1]
    far = kind(lambda x: space.log(x, g @ y @ g.mT), g @ x @ g.mT, probes, space)[1]
    torch.testing.assert_close(far, near, rtol=1e-6, atol=1e-6)
    exact = ExactDivergence()(lambda x: space.log(x, y), x, {}, space)[1]
    assert (near - exact).std() > 0.1


def test_hutchinson_variance_is_small_near_faces_of_the_simplex() -> None:
    """Towards a point, along the geodesics of 50 points near a face, 64 probes: deviations at most 3, not 23."""
    space = Simplex(4)
    x = space.sample_base(50, Rng(0).stream("x")).double()
    x = torch.cat([1e-6 * x[:, :1], x[:, 1:]], 1)
    x, y = x / x.sum(1, keepdim=True), f64(0.1, 0.3, 0.2, 0.3, 0.1)
    found = []
    for i in range(64):
        kind = Hutchinson()
        probes = kind.probes(x, Rng(i).stream("probe"))
        found.append(kind(lambda x: space.log(x, y.expand_as(x)), x, probes, space)[1])
    assert torch.stack(found).std(0).max() < 3


def test_default_divergence_is_exact_in_low_curved_dimensions() -> None:
    assert (
        default_divergence(SPD(3))
        == default_divergence(SO3((2,)))
        == default_divergence(Product({"a": Poincare(2), "b": Euclidean((3,))}))
        == ExactDivergence()
    )
    assert default_divergence(SPD(8)) == default_divergence(Euclidean((3,))) == Hutchinson()
