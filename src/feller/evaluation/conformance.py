"""Conformance tests for user-defined schedules, paths, spaces, solvers, objectives and modalities (`feller.testing`).

Each check takes seconds. If a property is violated, it raises a `ConformanceError` that names the property and the
values. Random checks are seeded; their docstrings state the false-alarm probability.
"""

import itertools
import math
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, found_instead
from feller.core.errors import check_kind as _check_kind
from feller.core.pytree import State, append_dims, leaves, num_examples, tree_map
from feller.core.rng import RandomStream, Rng
from feller.core.serialization import from_dict, to_dict
from feller.core.user_code import qualified_name, user_frame
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.loading.user_modality import user_call
from feller.data.modality import Dataset, Modality
from feller.models.recipes.recipe import SIZES, Recipe
from feller.models.recipes.recipe import check_states as _check_states
from feller.models.recipes.registry import RECIPES
from feller.paths import DataPrediction, Path, convert
from feller.paths.processes import Characteristics
from feller.paths.schedules import Schedule
from feller.paths.time_distributions import linear_grid
from feller.sampling import Solver, simulate, trajectory
from feller.sampling.simulation import check_characteristics as _check_now
from feller.sampling.solvers.euler import Euler
from feller.spaces import Euclidean, Manifold, Product, Simplex, Space
from feller.training.objective import Objective

F32, F64 = torch.float32, torch.float64
PRECISIONS = {F64: 1e-9, F32: 2e-4}
"""Absolute tolerance for each dtype, for values of order 1."""
STEP = 1e-5
"""Step size of finite differences in float64."""
EndpointSampler = Callable[[int, RandomStream], tuple[State, State]]
"""Function from n and a random stream to n source points and n data points, each [n, ...]."""


class ConformanceError(AssertionError):
    """Error raised if an object violates a property of its interface."""

    def __init__(self, subject: object, prop: str, found: object, allowed: object) -> None:
        super().__init__(f"{type(subject).__name__}: {prop}: found {found}, allowed {allowed}")
        self.subject, self.property, self.found, self.allowed = subject, prop, found, allowed


class _Checker:
    """Assertions about one object, the `subject`; each raises `ConformanceError` on failure.

    The argument `prop` is the name of the checked property in the error.
    """

    def __init__(self, subject: object) -> None:
        self.subject = subject

    def close(self, prop: str, ours: State, theirs: State, atol: float, rtol: float | None = None) -> None:
        """Require |ours - theirs| <= atol + rtol |theirs| in all leaves; rtol defaults to atol."""
        rtol = atol if rtol is None else rtol
        for a, b in zip(leaves(ours), leaves(theirs), strict=True):
            if a.shape != b.shape:
                raise ConformanceError(self.subject, f"{prop} (shape)", [*a.shape], [*b.shape])
            a, b = a.detach().double(), b.detach().double()
            excess = (a - b).abs() - rtol * b.abs()
            if a.numel() and not bool((excess <= atol).all()):
                difference = (a - b).abs()
                largest = difference.nan_to_num(nan=math.inf).max().item()
                raise ConformanceError(self.subject, prop, f"a difference of {largest:.3g}", f"{atol:.3g}")

    def true(self, prop: str, holds: Tensor | bool, found: object, allowed: object) -> None:
        """Raise `ConformanceError` unless `holds` is True in all entries.

        `prop` is the name of the checked property; the error states it with the values `found` and `allowed`.
        """
        if not bool(torch.as_tensor(holds).all()):
            raise ConformanceError(self.subject, prop, found, allowed)

    def answer(self, call: str, function: Callable[[], Any], allowed: str) -> Any:
        """Call a method of the object and return its result; its exceptions become `ConformanceError`."""
        try:
            return function()
        except Exception as error:  # user code may raise anything
            message = str(error).splitlines()[0] if str(error) else ""
            found = user_frame(error, type(self.subject)) or f"{type(error).__name__}: {message}"
            raise ConformanceError(self.subject, f"{call} returns a result", found, allowed) from error

    def equal(self, prop: str, ours: State, theirs: State) -> None:
        """Require equal leaves, without tolerance."""
        self.close(prop, ours, theirs, 0.0)

    def require_inputs_unchanged(self, states: Sequence[State], call: Callable[[], object]) -> None:
        """Require that a call does not modify its inputs in place."""
        copies = [tree_map(torch.clone, state) for state in states]
        call()
        for state, copy in zip(states, copies, strict=True):
            self.equal("inputs are not modified", state, copy)

    def mean_is(self, prop: str, values: Tensor, expected: Tensor, bias: float, deviations: float) -> None:
        """Require two sample means to agree within a number of standard errors plus a bias."""
        standard_error = ((values.var(0) + expected.var(0)) / len(values)).sqrt()
        diff = (values.mean(0) - expected.mean(0)).abs()
        allowed = deviations * standard_error + bias
        self.true(prop, diff <= allowed, f"{(diff - allowed).max() + allowed.max():.3g}", f"{allowed.max():.3g}")


def check_schedule(schedule: Schedule) -> None:
    """Check a schedule: the functions alpha and sigma of time.

    The checks are: derivatives; alpha does not decrease and sigma decreases; `t_from_snr` inverts alpha / sigma;
    precision in float32 and float64; shapes; support for vmap and meta tensors.

    Raises:
        ConformanceError: If a property does not hold.
    """
    check, interior = _Checker(schedule), torch.linspace(0.02, 0.98, 49, dtype=F64)
    t = interior.clone().requires_grad_()
    scales = schedule(t)
    for name in ("alpha", "sigma"):
        value, d_value = getattr(scales, name), torch.as_tensor(getattr(scales, f"d_{name}"), dtype=F64).expand(t.shape)
        has_gradient = isinstance(value, Tensor) and value.requires_grad
        autograd = torch.autograd.grad(value.sum(), t, retain_graph=True)[0] if has_gradient else torch.zeros_like(t)
        check.close(f"d_{name} is the derivative of {name}", d_value, autograd, 1e-10)
    alpha, sigma, *_ = _scales(schedule, torch.linspace(0, 1, 201, dtype=F64))
    check.true("alpha does not decrease", alpha.diff() >= 0, f"{alpha.diff().min():.3g}", 0)
    check.true("sigma decreases", sigma.diff() < 0, f"{sigma.diff().max():.3g}", "below 0")
    coefficients = schedule(interior)
    for name in ("wronskian", "d_log_snr", "score_coefficient"):
        value = torch.as_tensor(getattr(coefficients, name))
        check.true(f"{name} is positive", value > 0, f"{value.min():.3g}", "above 0")
    for dtype, atol in ((F32, 2e-5), (F64, 1e-12)):
        a, s, *_ = _scales(schedule, interior.to(dtype))
        check.close("t_from_snr(alpha / sigma) is the time", schedule.t_from_snr(a / s), interior.to(dtype), atol, 0.0)
    for single, double in zip(_scales(schedule, interior.float()), _scales(schedule, interior), strict=True):
        check.close("float32 agrees with float64", single, double, 2e-6, 2e-5)
    for shape, dtype in itertools.product(((), (1,), (5,)), (F32, F64)):
        for value in schedule(torch.full(shape, 0.4, dtype=dtype)):
            is_valid = isinstance(value, float) or (value.shape == shape and value.dtype == dtype)
            found = "a float" if isinstance(value, float) else f"{[*value.shape]} {value.dtype}"
            check.true("scales have shape and dtype of the times", is_valid, found, f"{[*shape]} {dtype}")
    mapped = torch.vmap(lambda t: tuple(_scales(schedule, t)))(interior)
    check.close("vmap", torch.stack(mapped), torch.stack(_scales(schedule, interior)), 1e-14)
    abstract = torch.as_tensor(schedule(torch.empty(4, device="meta")).sigma)
    check.true("meta tensors", abstract.shape == (4,) and abstract.is_meta, [*abstract.shape], [4])


def _scales(schedule: Schedule, t: Tensor) -> list[Tensor]:
    return [torch.as_tensor(scale, dtype=t.dtype).expand(t.shape) for scale in schedule(t)]


def check_manifold(space: Manifold | Product, *, smooth: bool = True) -> None:
    """Check a manifold: exp and log, geodesics, metric, projections, transport, tangent spaces, volume and precision.

    The volume is checked by the identity E[div f + f . grad log p] = 0, where p is the density of the base distribution
    and f a smooth vector field. The mean is over 3,000 points of this distribution. The false-alarm probability is
    6e-7.

    Args:
        space: A manifold or a product of manifolds; test points are samples of its base distribution.
        smooth: False for piecewise flat spaces, on which log is not the inverse of exp.

    Raises:
        ConformanceError: If a property does not hold.
    """
    check = _Checker(space)
    for dtype, atol in PRECISIONS.items():
        x, y, z = (_points(space, 20, seed, dtype) for seed in range(3))
        _check_metric(check, space, x, y, z, atol)
        _check_projections(check, space, x, y, atol)
        _check_transport(check, space, x, y, atol, smooth=smooth)
        _check_zero(check, space, x, atol, smooth=smooth)
        _check_types(check, space, x, y, dtype)
        if smooth:
            _check_geodesics(check, space, x, y, atol)
    if smooth:
        _check_rates(check, space)
        _check_volume(check, space)
        x = _points(space, 1)
        rows = [torch.cat([leaf.flatten() for leaf in leaves(space.to_tangent(x, unit))]) for unit in _unit_states(x)]
        rank = int(torch.linalg.matrix_rank(torch.stack(rows), atol=1e-9))
        check.true("dimension counts the tangent space", rank == space.dimension, space.dimension, rank)


def _check_metric(check: _Checker, space: Manifold | Product, x: State, y: State, z: State, atol: float) -> None:
    """Check the axioms of a metric."""
    distance = space.distance(x, y)
    check.close("distance is symmetric", distance, space.distance(y, x), atol)
    excess = space.distance(x, z) - distance - space.distance(y, z)
    check.true("triangle inequality", excess <= atol, f"{excess.max():.3g}", atol)
    check.true("distance is positive", distance > 0, f"{distance.min():.3g}", "above 0")
    check.close("distance to itself", space.distance(x, x), torch.zeros(20), 0.0)


def _check_projections(check: _Checker, space: Manifold | Product, x: State, y: State, atol: float) -> None:
    """Check that projections are idempotent, fix base samples and land on the manifold, and that log is tangent."""
    stream = Rng(3).stream("noise")
    base_error = space.constraint_error(space.sample_base(20, Rng(0).stream("points")))
    check.true("base samples are on the manifold", base_error < 2e-6, f"{base_error.max():.3g}", 2e-6)
    check.close("projection fixes points of the manifold", space.project(x), x, atol)
    perturbed = tree_map(lambda leaf: leaf + 0.1 * stream.normal(leaf.shape, F64).to(leaf), x)
    check.close("projection is idempotent", space.project(space.project(perturbed)), space.project(perturbed), atol)
    for name, state in (("projections", space.project(perturbed)), ("exp", space.exp(x, _tangents(space, x)))):
        errors = space.constraint_error(state)
        check.true(f"{name} are on the manifold", errors < atol, f"{errors.max():.3g}", atol)
    ones = space.to_tangent(x, tree_map(torch.ones_like, x))
    for name, vector in (("projected vectors", ones), ("log", space.log(x, y))):
        check.close(f"{name} are tangent", space.to_tangent(x, vector), vector, atol)


def _check_transport(
    check: _Checker, space: Manifold | Product, x: State, y: State, atol: float, *, smooth: bool
) -> None:
    """Check that transport is an isometry of tangent spaces."""
    v, w = (_tangents(space, x, seed) for seed in range(2))
    v_y, w_y = space.transport(x, y, v), space.transport(x, y, w)
    check.close("transport preserves lengths", space.norm(y, v_y), space.norm(x, v), atol)
    norms = space.norm(y, tree_map(torch.add, v_y, w_y)), space.norm(x, tree_map(torch.add, v, w))
    check.close("transport preserves inner products", *norms, atol)
    check.close("transported vectors are tangent", space.to_tangent(y, v_y), v_y, atol)
    check.close("transport to the same point", space.transport(x, x, v), v, atol)
    if smooth:
        expected = _scale(-1.0, space.log(y, x))
        check.close("transport of log(x, y) is -log(y, x)", space.transport(x, y, space.log(x, y)), expected, 5 * atol)
        check.close("transport there and back", space.transport(y, x, v_y), v, 5 * atol)


def _check_zero(check: _Checker, space: Manifold | Product, x: State, atol: float, *, smooth: bool) -> None:
    """Check reverse- and forward-mode derivatives at v = 0 and y = x, where formulas have the form 0 / 0."""
    v = _tangents(space, x)
    functions: dict[str, Callable[[State], State]] = {
        "exp": lambda y: space.exp(x, tree_map(torch.sub, y, x)),
        "log": lambda y: space.log(x, y),
        "log from y": lambda y: space.log(y, x),
        "transport": lambda y: space.transport(x, y, v),
        "distance": lambda y: space.distance(x, y),
        "length": lambda y: space.norm(x, tree_map(torch.sub, y, x)),
        "project": space.project,
    }
    if smooth:
        functions["log_differential"] = lambda y: space.log_differential(x, y, v)
    for name, function in functions.items():
        y_grad = tree_map(lambda y: y.clone().requires_grad_(), x)
        sums = [leaf.sum() for state in (function(y_grad), _scale(0.0, y_grad)) for leaf in leaves(state)]
        total = torch.stack(sums).sum()
        is_finite = all(bool(leaf.isfinite().all()) for leaf in torch.autograd.grad(total, list(leaves(y_grad))))
        check.true(f"the gradient of {name} is finite at y = x", is_finite, "nan or inf", "finite")
    rate = torch.func.jvp(lambda v: space.exp(x, v), (_scale(0.0, v),), (v,))[1]
    check.close("exp is the identity to first order at v = 0", rate, v, atol)
    check.close("log_differential is the identity at y = x", space.log_differential(x, x, v), v, atol)
    if smooth:
        rate = torch.func.jvp(lambda y: space.log(x, y), (x,), (v,))[1]
        check.close("log is the identity to first order at y = x", rate, v, atol)


def _check_types(check: _Checker, space: Manifold | Product, x: State, y: State, dtype: torch.dtype) -> None:
    """Check that inputs are not modified, and that outputs have their dtype and shape."""
    v = _scale(0.1, _tangents(space, x))
    pairs: list[tuple[State, State]] = []

    def call() -> None:
        states = (
            space.exp(x, v),
            space.log(x, y),
            space.transport(x, y, v),
            space.project(x),
            space.log_differential(x, y, v),
        )
        scalars = space.norm(x, v), space.distance(x, y), space.base_log_prob(x), space.log_volume_rate(x, v)
        pairs.extend((state, x) for state in states)
        pairs.extend((scalar, x_n) for scalar in scalars)

    x_n = next(leaves(x)).flatten(1)[:, 0]
    check.require_inputs_unchanged([x, y, v], call)
    for output, reference in ((a, b) for p, q in pairs for a, b in zip(leaves(p), leaves(q), strict=True)):
        is_same = output.dtype == dtype and output.shape == reference.shape
        allowed = f"{[*reference.shape]} {dtype}"
        check.true("outputs have dtype and shape of the inputs", is_same, f"{[*output.shape]} {output.dtype}", allowed)


def _check_geodesics(check: _Checker, space: Manifold | Product, x: State, y: State, atol: float) -> None:
    """Check that geodesics are shortest paths of constant speed, and that log inverts exp."""
    v, distance = space.log(x, y), space.distance(x, y)
    error = space.distance(space.exp(x, v), y)
    check.true("exp(x, log(x, y)) is y", error < 5 * atol, f"{error.max():.3g} away", 5 * atol)
    half_v = _scale(0.5, v)
    check.close("log(x, exp(x, v)) is v", space.log(x, space.exp(x, half_v)), half_v, atol)
    check.close("the length of log is the distance", space.norm(x, v), distance, atol)
    for s in (0.25, 0.75):
        z = space.exp(x, _scale(s, v))
        check.close("geodesics have constant speed", space.distance(x, z), s * distance, atol)
        check.close("geodesics are shortest", space.distance(z, y), (1 - s) * distance, atol)


def _check_rates(check: _Checker, space: Manifold | Product) -> None:
    """Check derivatives of geodesics and of log against finite differences; also vmap and meta tensors."""
    x, y = _points(space, 10), _points(space, 10, 1)
    v = space.log(x, y)
    z, before, after = (space.exp(x, _scale(s, v)) for s in (0.6, 0.6 - STEP, 0.6 + STEP))
    check.close("geodesics are straight", _difference(after, before), space.transport(x, z, v), 1e-6)
    for size in (1e-4, 0.03):
        base = space.exp(x, _scale(size, _tangents(space, x)))
        w = _scale(0.1, _tangents(space, base, 1))
        log_after, log_before = (space.log(x, space.exp(base, _scale(s, w))) for s in (STEP, -STEP))
        rate = space.log_differential(x, base, w)
        check.close("log_differential is the derivative of log", rate, _difference(log_after, log_before), 1e-6)
    w = _scale(0.1, _tangents(space, x))
    calls: tuple[tuple[Callable[..., State], tuple[State, ...]], ...] = (
        (space.exp, (x, w)),
        (space.log, (x, y)),
        (space.transport, (x, y, w)),
    )
    for function, states in calls:

        def single(*states: State, function: Callable[..., State] = function) -> State:
            batches = (tree_map(lambda leaf: leaf[None], state) for state in states)
            return tree_map(lambda leaf: leaf[0], function(*batches))

        check.close("vmap", torch.vmap(single)(*states), function(*states), 1e-12)
        abstract = function(*(tree_map(lambda leaf: leaf.to("meta"), state) for state in states))
        is_meta = all(a.shape == b.shape and a.is_meta for a, b in zip(leaves(abstract), leaves(x), strict=True))
        check.true("meta tensors", is_meta, "another shape or device", "the state's")


def _check_volume(check: _Checker, space: Manifold | Product) -> None:
    """Check Stein's identity E[div f + f . grad log p] = 0 for a random field f under the base distribution p.

    This tests base samples, log density and volume element together.
    """
    n, x, stream = 3000, _points(space, 3000), Rng(0).stream("field")
    a, b = (tree_map(lambda leaf: stream.normal((1, *leaf.shape[1:]), F64), x) for _ in range(2))

    def field(x: State) -> State:
        w = tree_map(lambda x, a, b: b + a * torch.sin(x + a), x, a, b)
        return x * (w - (x * w).sum(-1, keepdim=True)) if isinstance(space, Simplex) else space.to_tangent(x, w)

    total = space.log_volume_rate(x, field(x))
    for unit in _unit_states(x):
        d = space.to_tangent(x, unit)
        df = torch.func.jvp(field, (x,), (d,))[1]
        total = total + sum((p * q).flatten(1).sum(1) for p, q in zip(leaves(d), leaves(df), strict=True))
    log_p_after, log_p_before = (space.base_log_prob(space.exp(x, _scale(s, field(x)))) for s in (STEP, -STEP))
    mean = total + (log_p_after - log_p_before) / (2 * STEP)
    error, allowed = abs(mean.mean().item()), 5 * mean.std().item() / math.sqrt(n) + 1e-8
    check.true("volume, tangent spaces and base density agree", error <= allowed, f"{error:.3g}", f"{allowed:.3g}")


def _points(space: Manifold | Product, n: int, seed: int = 0, dtype: torch.dtype = F64) -> State:
    return space.project(tree_map(lambda leaf: leaf.to(dtype), space.sample_base(n, Rng(seed).stream("points"))))


def _tangents(space: Manifold | Product, x: State, seed: int = 0) -> State:
    """Return random unit tangent vectors."""
    stream = Rng(seed).stream("tangents")
    v = space.to_tangent(x, tree_map(lambda leaf: stream.normal(leaf.shape, F64).to(leaf), x))
    norm = space.norm(x, v)
    return tree_map(lambda leaf: leaf / append_dims(norm, leaf), v)


def _scale(s: float, v: State) -> State:
    return tree_map(lambda leaf: s * leaf, v)


def _difference(after: State, before: State) -> State:
    return tree_map(lambda a, b: (a - b) / (2 * STEP), after, before)


def _unit_states(x: State) -> Iterator[State]:
    """Yield states with a 1 at one entry of one leaf, and 0 elsewhere."""
    for k, tensor in enumerate(leaves(x)):
        for j in range(tensor[0].numel()):
            count = itertools.count()

            def unit(leaf: Tensor, count: Iterator[int] = count, k: int = k, j: int = j) -> Tensor:
                rows = torch.zeros_like(leaf).flatten(1)
                if next(count) == k:
                    rows[:, j] = 1
                return rows.view(leaf.shape)

            yield tree_map(unit, x)


def check_path(
    path: Path,
    space: Space,
    *,
    sample_endpoints: EndpointSampler | None = None,
    certain_prediction: Callable[[State], State] = lambda target: target,
    accuracy: float = 1e-6,
) -> None:
    """Check a path: velocity, marginals, batch independence, dtypes, and that inputs are not modified.

    The velocity must be the time derivative of samples. The process is simulated with the true prediction from t = 0.2
    to 0.8 in 40 steps. Means and mean squares of 4,000 examples must equal those of samples of the path within 5
    standard errors plus a bias of 0.05. The false-alarm probability is below 1e-6 per entry of the state.

    Args:
        path: Path of a tensor, or a product path.
        space: State space of the path.
        sample_endpoints: Sampler of pairs (x_0, x_1). The default draws both from the base distribution; in Euclidean
            space it maps the second sample x to 0.5 + 0.5 x.
        certain_prediction: Function from the result of `path.target` to the network prediction that puts all
            probability on it, such as logits for tokens. By default the prediction is the target itself.
        accuracy: Absolute numerical error of path samples, if the path computes them by simulation.

    Raises:
        ConformanceError: If a property does not hold, or a method raises an exception.
        UsageError: If `path` is not a path or `space` is not a space.
    """
    _check_kind("path", path, Path, "feller.Affine()")
    _check_kind("space", space, Space, f"feller.Euclidean({space if isinstance(space, tuple) else (2,)})")
    check, sample_endpoints = _Checker(path), sample_endpoints or _default_endpoints(space)
    x_0, x_1 = sample_endpoints(6, Rng(0).stream("ends"))
    t = torch.linspace(0.15, 0.85, 6, dtype=F64)

    def sample_at(t: Tensor, seed: int = 1) -> State:
        def sample() -> State:
            return path.sample(x_0, x_1, t, Rng(seed).stream("path"))

        return check.answer("sample(x_0, x_1, t, rng)", sample, "a state of the shape of x_1, for times of shape [b]")

    def target_of(x_t: State, x_0: State, x_1: State, t: Tensor) -> State:
        return check.answer("target(x_t, x_0, x_1, t)", lambda: path.target(x_t, x_0, x_1, t), "a regression target")

    def certain_of(x_t: State, x_0: State, x_1: State, t: Tensor) -> State:
        target = target_of(x_t, x_0, x_1, t)

        def characteristics() -> State:
            current = path.characteristics(certain_prediction(target), x_t, t)
            _check_now(current, x_t)
            return current

        return check.answer(
            "characteristics(prediction, x_t, t)", characteristics, "Characteristics of the shape of x_t"
        )

    x_t = sample_at(t)
    shapes = [[[*leaf.shape] for leaf in leaves(state)] for state in (x_t, x_1)]
    check.true("a sample has the shape of the data", shapes[0] == shapes[1], *shapes)
    target = target_of(x_t, x_0, x_1, t)
    check.equal("sampling is deterministic given the random stream", sample_at(t), x_t)
    check.require_inputs_unchanged([x_0, x_1, x_t, t], lambda: (sample_at(t), certain_of(x_t, x_0, x_1, t)))
    current = certain_of(x_t, x_0, x_1, t)
    h = STEP if accuracy > STEP else accuracy
    rates = tree_map(lambda a, b: (a.double() - b.double()) / (2 * h), sample_at(t + h), sample_at(t - h))
    for c, rate in zip(leaves(current), leaves(rates), strict=True):
        if c.velocity is not None and c.diffusion is None and c.jumps is None:
            check.close("the velocity is the time derivative of the sample", c.velocity, rate, max(1e-6, accuracy))
    for row in range(6):
        y, a, b, s = (tree_map(lambda leaf, row=row: leaf[row : row + 1], tree) for tree in (x_t, x_0, x_1, t))
        single_row = path.sample(a, b, s, Rng(1, row).stream("path"))
        check.close("a row does not depend on its batch (sample)", single_row, y, 1e-12)
        for batched, single in zip(leaves(current), leaves(certain_of(y, a, b, s)), strict=True):
            if batched.velocity is not None:
                velocity = batched.velocity[row : row + 1]
                check.close("a row does not depend on its batch (process)", single.velocity, velocity, 1e-12)

    def mapped(*rows: State) -> State:
        target_rows = path.target(*(tree_map(lambda leaf: leaf[None], row) for row in rows))
        return tree_map(lambda leaf: leaf[0], target_rows)

    check.close("vmap of the target", torch.vmap(mapped)(x_t, x_0, x_1, t), target, 1e-12)
    pairs = zip(leaves(x_t), leaves(sample_at(t, 2)), strict=True)
    if isinstance(x_1, Tensor) and x_1.is_floating_point() and all(torch.equal(a, b) for a, b in pairs):
        single = path.sample(x_0.float(), x_1.float(), t.float(), Rng(1).stream("path"))
        check.true("float32 stays float32", single.dtype == F32, single.dtype, F32)
        check.close("float32 agrees with float64", single, x_t, 1e-3)
    _check_marginals(check, path, space, sample_endpoints, certain_of)


def _check_marginals(
    check: _Checker, path: Path, space: Space, sample_endpoints: EndpointSampler, certain_of: Callable[..., State]
) -> None:
    """Check that the process of a path, given the true endpoints, has the marginals of `path.sample`."""
    n, schedule = 4000, path.affine_schedule
    x_0, x_1 = sample_endpoints(n, Rng(0).stream("ends"))

    def process(x: State, t: Tensor) -> State:
        if schedule is not None:  # x_0 follows from (x_t, x_1), since noise moves the state off the original path
            prediction = getattr(path, "prediction")  # noqa: B009 - only paths with an affine schedule have it
            return path.characteristics(convert(x_1, DataPrediction(), prediction, x, schedule(t)), x, t)
        return certain_of(x, x_0, x_1, t)

    def sample_at(time: float, seed: int) -> State:
        return path.sample(x_0, x_1, torch.full((n,), time, dtype=F64), Rng(seed).stream("path"))

    simulated = simulate(process, sample_at(0.2, 1), linear_grid(40, 0.2, 0.8), Euler(space), Rng(2))
    for leaf, expected in zip(leaves(simulated), leaves(sample_at(0.8, 3)), strict=True):
        values, truth = leaf.double().flatten(1), expected.double().flatten(1)
        scale = max(1.0, truth.std().item())
        check.mean_is("means of the marginals", values, truth, 0.05 * scale, 5.0)
        check.mean_is("mean squares of the marginals", values**2, truth**2, 0.1 * scale**2, 5.0)


def _default_endpoints(space: Space) -> EndpointSampler:

    def sample_endpoints(n: int, rng: RandomStream) -> tuple[State, State]:
        x_0, x_1 = (space.sample_base(n, rng) for _ in range(2))
        if not x_0.is_floating_point():
            return x_0, x_1.clamp(max=getattr(space, "vocab_size", int(x_1.max()) + 1) - 1)
        x_0, x_1 = x_0.double(), x_1.double()
        if isinstance(space, Manifold) and not isinstance(space, Euclidean):
            x_0, x_1 = space.project(x_0), space.project(x_1)
            return x_0, space.exp(x_0, space.log(x_0, x_1) / 2)  # away from the cut locus
        return x_0, 0.5 + 0.5 * x_1

    return sample_endpoints


def check_solver(
    solver: Solver,
    *,
    order: float | None = 1.0,
    runs_backwards: bool = True,
    has_noise: bool = False,
    rows_independent: bool = True,
    tolerance: float = 1e-6,
) -> None:
    """Check a solver on flows in Euclidean space.

    The checks are: order of convergence, exactness for constant velocity, time grids, gradients, batch independence,
    dtypes, and that inputs are not modified.

    Args:
        solver: Solver in Euclidean space.
        order: Order of convergence for an ODE; None for adaptive step sizes.
        runs_backwards: True if the solver supports decreasing time grids.
        has_noise: True if the solver adds noise, so that it does not follow a velocity exactly.
        rows_independent: True if the result of an example does not depend on the batch.
        tolerance: Error tolerance of an adaptive solver.

    Raises:
        ConformanceError: If a property does not hold.
    """
    check, x = _Checker(solver), torch.linspace(-1.5, 2.5, 5, dtype=F64)[:, None]
    if not has_noise:
        _check_accuracy(check, solver, x, order, runs_backwards, tolerance)
    seen_times: list[Tensor] = []

    def recording_process(x: Tensor, t: Tensor) -> Characteristics:
        seen_times.append(t)
        return _flow(x, t)

    check.require_inputs_unchanged([x], lambda: simulate(recording_process, x, linear_grid(8), solver, Rng(0)))
    for time in seen_times:
        is_valid = time.shape == (5,) and time.dtype == F64 and 0 <= float(time.min()) <= float(time.max()) <= 1
        check.true(
            "times are [b] in [0, 1], of the state's dtype", is_valid, f"{[*time.shape]} {time.dtype}", "[5] float64"
        )
    single = simulate(_flow, x.float(), linear_grid(8), solver, Rng(0))
    check.true("float32 stays float32", single.dtype == F32, single.dtype, F32)
    for shape in ((2,), (2, 1), (2, 3, 2, 2)):
        end = simulate(_flow, torch.ones(shape, dtype=F64), linear_grid(4), solver, Rng(0))
        check.true("states of any shape", end.shape == shape, [*end.shape], [*shape])
        if not has_noise:
            check.close("equal entries stay equal", end, end.flatten()[:1].expand(end.numel()).view(shape), 1e-12)
    _check_gradient(check, solver, x, exact=order is not None)
    if rows_independent:
        _check_rows(check, solver, exact=order is not None)


def _check_accuracy(
    check: _Checker, solver: Solver, x: Tensor, order: float | None, backwards: bool, tolerance: float
) -> None:
    """Check order or tolerance on the exact flow between normal distributions, and on a constant velocity."""
    for a, b in ((0.1, 0.8), *(((0.8, 0.1),) if backwards else ())):
        var_t, var_s = ((time / 2) ** 2 + (1 - time) ** 2 for time in (a, b))
        exact = b + math.sqrt(var_s / var_t) * (x - a)
        results = [simulate(_flow, x, linear_grid(n, a, b), solver, Rng(0)) for n in (128, 256)]
        errors = [(end - exact).abs().max().item() for end in results]
        if order is None:
            check.close(f"tolerance from {a} to {b}", results[1], exact, tolerance)
        else:
            observed_order = math.log2(errors[0] / errors[1]) if errors[1] > 1e-13 else order
            check.true(f"order from {a} to {b}", observed_order > order - 0.25, f"{observed_order:.2f}", f"{order:g}")
    times = [0.0, 0.3, 0.35, 1.0]
    states = list(trajectory(_constant_flow, x, times, solver, Rng(0)))
    for s, state in zip(times[1:], states, strict=True):
        check.close("constant velocity is integrated exactly", state, x + s, 1e-12)


def _flow(x: Tensor, t: Tensor) -> Characteristics:
    """Return the velocity from N(0, 1) to N(1, 1/4) on straight paths."""
    t = append_dims(t, x)
    variance = (t / 2) ** 2 + (1 - t) ** 2
    return Characteristics(velocity=1 + (t / 4 - (1 - t)) / variance * (x - t))


def _constant_flow(x: Tensor, t: Tensor) -> Characteristics:
    return Characteristics(velocity=torch.ones_like(x))


def _check_gradient(check: _Checker, solver: Solver, x: Tensor, *, exact: bool) -> None:
    """Check gradients through a simulation, with and without checkpointing, against finite differences."""
    theta, times = torch.tensor(1.3, dtype=F64, requires_grad=True), linear_grid(6, 0.1, 0.9)

    def value(theta: Tensor, recompute: bool = False) -> Tensor:
        def process(x: Tensor, t: Tensor) -> Characteristics:
            return Characteristics(velocity=-theta * x + (theta * x).sin() * (1 + t[:, None]))

        return simulate(process, x, times, solver, Rng(2), recompute=recompute).square().sum()

    (gradient,), (recomputed,) = (torch.autograd.grad(value(theta, recompute), theta) for recompute in (False, True))
    with torch.no_grad():
        difference = (value(theta + STEP) - value(theta - STEP)) / (2 * STEP)
    check.close("the gradient equals finite differences", gradient, difference, 1e-7 if exact else 1e-4)
    check.close("gradient checkpointing leaves the gradient unchanged", recomputed, gradient, 1e-12 if exact else 1e-5)


def _check_rows(check: _Checker, solver: Solver, *, exact: bool) -> None:
    """Check that simulating a batch in parts gives the same result."""
    x, grid = Rng(0).stream("source").normal((300, 2), F64), linear_grid(5, 0.0, 0.9)
    full = simulate(_flow, x, grid, solver, Rng(7))
    chunks = [
        simulate(_flow, x[a:b], grid, solver, Rng(7, first_example=a)) for a, b in itertools.pairwise((0, 1, 100, 300))
    ]
    check.close("a row does not depend on its batch", torch.cat(chunks), full, 0.0 if exact else 1e-14)


def check_objective(
    objective: Objective,
    network: nn.Module,
    batch: dict[str, Any],
    *,
    is_random: bool = True,
    rows_independent: bool = True,
) -> None:
    """Check an objective: randomness only in `draw`, one loss per example, support for vmap, independence of examples.

    Args:
        objective: Objective to check.
        network: Small network with nonzero weights; in float64 its gradient is compared with finite differences.
        batch: Batch of the data loader, with at least 6 examples.
        is_random: True if `draw` uses random numbers.
        rows_independent: True if each training example depends only on its own row of the batch, as DP-SGD requires.

    Raises:
        ConformanceError: If a property does not hold.
    """
    check = _Checker(objective)

    total = num_examples(batch)

    def draw(batch: dict[str, Any], seed: int = 1, first: int = 0) -> dict[str, Any]:
        return objective.draw(batch, Rng(seed, first, total), network)

    torch.manual_seed(1)
    examples: dict[str, Any] = {}
    check.require_inputs_unchanged([batch], lambda: examples.update(draw(batch)))
    torch.manual_seed(2)
    check.equal("draw is deterministic given the seed", draw(batch), examples)
    is_equal = all(torch.equal(a, b) for a, b in zip(leaves(draw(batch, 2)), leaves(examples), strict=True))
    check.true(
        "another seed gives other examples", is_equal != is_random, "the same" if is_equal else "others", "the opposite"
    )
    state = torch.get_rng_state()
    loss = objective.loss(network, examples)
    is_same = torch.equal(state, torch.get_rng_state())
    check.true("the loss uses no random numbers", is_same, "a change of the state of torch's generator", "none")
    check.equal("the loss is deterministic", objective.loss(network, examples), loss)
    n = num_examples(examples)
    check.true("one loss per example", loss.shape == (n,), [*loss.shape], [n])
    check.true("the loss is finite", loss.isfinite(), loss.tolist(), "finite values")
    if rows_independent:
        half = total // 2
        first, second = (tree_map(lambda leaf, s=s: leaf[s], batch) for s in (slice(0, half), slice(half, None)))
        halves = draw(first), draw(second, first=half)
        joined = tree_map(lambda *leaf: torch.cat(leaf), *halves)
        check.close("an example depends on its own row only", joined, examples, 1e-5, 1e-4)
    _check_weights(check, objective, network, examples)


def _check_weights(check: _Checker, objective: Objective, network: nn.Module, examples: dict[str, Any]) -> None:
    """Check per-example gradients by vmap against a loop, and the summed gradient against finite differences."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def row_loss(weights: dict[str, Tensor], row: Any) -> Tensor:
        def call(*inputs: Any) -> Any:
            return torch.func.functional_call(network, weights, inputs)

        return objective.loss(call, tree_map(lambda leaf: leaf[None], row))[0]

    is_double = all(weight.dtype == F64 for weight in weights.values())
    batched = torch.vmap(torch.func.grad(row_loss), (None, 0))(weights, examples)
    for row in range(num_examples(examples)):
        network.zero_grad()
        objective.loss(network, tree_map(lambda leaf, row=row: leaf[row : row + 1], examples)).sum().backward()
        for name, weight in network.named_parameters():
            looped = torch.zeros_like(weight) if weight.grad is None else weight.grad
            check.close("vmap of the gradient equals a loop", batched[name][row], looped, 1e-10 if is_double else 1e-4)
    largest = max(gradient.abs().max().item() for gradient in batched.values())
    check.true("the loss depends on the network", largest > 1e-6, f"a gradient of {largest:.3g}", "above 1e-6")
    if not is_double:
        return
    network.zero_grad()
    objective.loss(network, examples).sum().backward()
    gradients = [(weight, weight.grad.clone()) for weight in network.parameters() if weight.grad is not None]
    weight, gradient = max(gradients, key=lambda pair: pair[1].abs().max().item())
    index, h, losses = gradient.abs().argmax(), 1e-6, []
    for step in (h, -2 * h, h):
        with torch.no_grad():
            weight.view(-1)[index] += step
            losses.append(objective.loss(network, examples).sum())
    finite_difference, expected = (losses[0] - losses[1]) / (2 * h), gradient.view(-1)[index]
    network.zero_grad()
    check.close("the gradient equals finite differences", expected, finite_difference, 1e-8, 1e-5)


def check_modality(kind: type[Modality], source: str) -> None:
    """Check a modality on a file: encoding, batch independence, sample files, serialization, figure and metrics.

    Args:
        kind: Modality class.
        source: File in a format that the modality reads, with at least 4 examples.

    Raises:
        ConformanceError: If a property does not hold.
        InputError: If a method is missing, raises an exception, or returns a value of the wrong type.
    """
    data = read(source, modality=kind)
    modality, values = data.modality, data.values
    check, head = _Checker(modality), data.subset(torch.arange(min(len(data), 4)))
    scale = max(1.0, *(leaf.abs().max().item() for leaf in leaves(values)))
    check.require_inputs_unchanged([values], lambda: modality.encode(values))
    state = modality.encode(values)
    check.close("decode inverts encode", modality.decode(state), values, 1e-5 * scale)
    check.close("encode inverts decode", modality.encode(modality.decode(state)), state, 1e-4)
    rows = tree_map(lambda leaf: leaf[: len(head)], state)
    check.close("the encoding of an example does not depend on the batch", modality.encode(head.values), rows, 1e-6)
    for leaf in leaves(state):
        rms = leaf.double().square().mean().sqrt().item() if leaf.is_floating_point() else 1.0
        check.true("states are of order one", 0.02 < rms < 50, f"{rms:.3g}", "0.02 to 50")
    check.true("serialization round-trips", from_dict(Modality, to_dict(modality)) == modality, "another", modality)
    with tempfile.TemporaryDirectory() as folder:
        for ending in sorted({*modality.writers} & {".npz", *modality.suffixes}):
            with user_call(modality, "frame"):
                modality.write(head.values, head.given, pathlib.Path(folder, f"written{ending}"))
            try:
                found, conditions = read_samples(pathlib.Path(folder, f"written{ending}"), modality)
            except InputError as error:
                if ending == ".npz":
                    raise
                raise InputError(
                    argument=qualified_name(kind, "frame"),
                    expected="rows that load can read",
                    found=error.found or str(error),
                    remedy="Write the columns that load expects, with a unique name per example",
                ) from error
            check.close(f"samples in {ending} round-trip", found, head.values, 1e-5 * scale)
            check.equal(f"conditions in {ending} round-trip", conditions, head.given)
    _check_recipe(data, kind.recipe)
    with user_call(modality, "figure"):
        modality.show(head.values, head.given)
    for metric in kind.metrics:
        with user_call(modality, "metrics"):
            found = abs(float(metric(values, values)))
        check.true(f"{metric.__name__} of data with themselves is 0", found < 1e-6, f"{found:.3g}", 0)


def _check_recipe(data: Dataset, recipe: Any) -> None:
    """Check that the recipe returns a Recipe whose objective has the states of the modality."""
    kind = type(data.modality)
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UsageError.unknown_name("recipe", recipe, RECIPES)
        recipe = RECIPES[recipe]
    with user_call(data.modality, "recipe"):
        instance: Any = recipe(data, SIZES[0])
    if not isinstance(instance, Recipe):
        expected = "a function of data and size that returns a feller.Recipe"
        found, remedy = found_instead(instance), "Return feller.Recipe(architecture=..., objective=...)"
        raise InputError(argument=f"recipe of {qualified_name(kind)}", expected=expected, found=found, remedy=remedy)
    _check_states(instance.objective.space, instance.modality or data.modality)
