"""Variants of guidance: formulas in closed form, limits that equal `cfg`, and where they leave the prediction alone."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.paths import Affine, DataPrediction, NoisePrediction, VelocityPrediction, convert
from feller.paths.schedules import VP, Linear
from feller.sampling.guidance import cfg
from feller.sampling.guidance_variants import apg, autoguidance, cfg_rescale, cfg_zero_star
from tests.errors import refuses
from tests.oracle import F64, close

N, NULLS = 5, {"label": 1}
X = torch.randn(N, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
C, U = torch.randn(2, N, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
T = torch.linspace(0.01, 0.9, N, dtype=F64)
LABEL = {"label": torch.zeros(N, dtype=torch.long)}
WEIGHTS = [2.5, torch.linspace(0.5, 4.0, N, dtype=F64)]


def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    """Return C with the label 0, and U with the null label."""
    predictions = torch.stack([C, U])
    return predictions[cond["label"], torch.arange(len(x)) % N]


def column(w: float | Tensor) -> float | Tensor:
    return w[:, None, None] if isinstance(w, Tensor) else w


METHODS = {
    "rescale": lambda w, **options: cfg_rescale(network, w, nulls=NULLS, **options),
    "zero-star": lambda w, **options: cfg_zero_star(network, w, 0.0, nulls=NULLS, **options),
    "apg": lambda w, **options: apg(network, w, Affine(Linear(), DataPrediction()), nulls=NULLS, **options),
    "auto": lambda w, **options: autoguidance(network, lambda x, t, cond: U, w, **options),
}


@pytest.mark.parametrize("name", METHODS)
def test_weight_one_and_times_outside_the_interval_are_conditional(name: str) -> None:
    close(METHODS[name](1.0)(X, T, LABEL), C, 1e-12)
    guided = METHODS[name](3.0, interval=(0.3, 0.6))(X, T, LABEL)
    inside = (T >= 0.3) & (T <= 0.6)
    close(guided[~inside], C[~inside], 0)
    assert ((guided - C)[inside].abs().flatten(1).max(1).values > 0.01).all()


@pytest.mark.parametrize("w", WEIGHTS, ids=["number", "tensor"])
def test_limits_equal_cfg(w: float | Tensor) -> None:
    expected = cfg(network, w, nulls=NULLS)(X, T, LABEL)
    path = Affine(VP(), NoisePrediction())
    close(cfg_rescale(network, w, 0.0, nulls=NULLS)(X, T, LABEL), expected, 1e-12)
    close(apg(network, w, path, 1.0, nulls=NULLS)(X, T, LABEL), expected, 1e-9)
    close(autoguidance(network, lambda x, t, cond: U, w)(X, T, LABEL), expected, 1e-12)


@pytest.mark.parametrize("w", WEIGHTS, ids=["number", "tensor"])
def test_rescaled_guidance_has_the_spread_of_the_conditional_prediction(w: float | Tensor) -> None:
    guided = cfg_rescale(network, w, 1.0, nulls=NULLS)(X, T, LABEL)
    close(guided.flatten(1).std(1), C.flatten(1).std(1), 1e-12)
    plain = cfg(network, w, nulls=NULLS)(X, T, LABEL)
    cosine = torch.nn.functional.cosine_similarity(guided.flatten(1), plain.flatten(1))
    close(cosine, torch.ones(N), 1e-12)


@pytest.mark.parametrize("w", WEIGHTS, ids=["number", "tensor"])
def test_cfg_zero_star_projects_the_unconditional_velocity(w: float | Tensor) -> None:
    """The difference of c and s u is orthogonal to u; velocities before the given time are 0."""
    guided = cfg_zero_star(network, w, 0.1, nulls=NULLS)(X, T, LABEL)
    scales = torch.linalg.lstsq(U.reshape(N, -1, 1), C.reshape(N, -1, 1)).solution
    scaled = U * scales
    expected = (1 - column(w)) * scaled + column(w) * C
    expected[T < 0.1] = 0
    close(guided, expected, 1e-12)


@pytest.mark.parametrize("kind", [VelocityPrediction(), DataPrediction()], ids=lambda kind: type(kind).__name__)
def test_apg_adds_only_what_is_orthogonal_and_not_too_long(kind) -> None:
    path = Affine(Linear(), kind)
    scales = path.schedule(T)
    guided, data, without = (
        convert(value, kind, DataPrediction(), X, scales)
        for value in (apg(network, 3.0, path, 0.0, 0.5, nulls=NULLS)(X, T, LABEL), C, U)
    )
    update, difference = (guided - data).flatten(1) / 2, (data - without).flatten(1)
    close((update * data.flatten(1)).sum(1), torch.zeros(N), 1e-10)
    direction = difference * (0.5 / difference.norm(dim=1, keepdim=True)).clamp(max=1)
    unit = torch.nn.functional.normalize(data.flatten(1), dim=1)
    close(update, direction - (direction * unit).sum(1, keepdim=True) * unit, 1e-10)


def test_wrong_use_of_guidance_variants() -> None:
    with refuses(UsageError, argument="nulls"):
        cfg_rescale(network, 2.0)
    for make in (lambda: cfg_rescale(network, 2.0, 1.5, nulls=NULLS), lambda: cfg_zero_star(network, 2.0, 1.0)):
        with pytest.raises(UsageError):
            make()
    with pytest.raises(UsageError):
        autoguidance(network, lambda x, t, cond: U, 2.0, interval=(0.5, 0.2))
    with refuses(UsageError, argument="guide"):
        autoguidance(network, lambda x, t, cond: U[:, :2], 2.0)(X, T, LABEL)


@pytest.mark.parametrize("w", WEIGHTS, ids=["number", "tensor"])
def test_an_example_of_one_entry_is_not_rescaled(w: float | Tensor) -> None:
    def one(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return network(x, t, cond)[:, :1, 0]

    guided = cfg_rescale(one, w, nulls=NULLS)(X[:, :1, 0], T, LABEL)
    close(guided, cfg(one, w, nulls=NULLS)(X[:, :1, 0], T, LABEL), 1e-12)


def test_zero_star_rests_only_with_guidance() -> None:
    w = torch.tensor([1.0, 2.0, 1.0, 2.0, 2.0], dtype=F64)
    guided = cfg_zero_star(network, w, 0.5, nulls=NULLS)(X, T, LABEL)
    is_zero = (guided == 0).flatten(1).all(1)
    assert is_zero.tolist() == ((T < 0.5) & (w > 1)).tolist()
    close(guided[w == 1], C[w == 1], 1e-12)
