"""Samples in mixed precision: states stay float32, and results are close to those of float32."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from feller.core.errors import InputError, UsageError
from feller.core.precision import autocast_dtype, float32_matmul, resolve_precision
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.models.model import Model
from feller.networks.mixed_precision import MixedPrecisionNetwork, at_precision
from feller.networks.mlp import MLP
from feller.sampling import DormandPrince
from feller.sampling.sampler_config import SamplerConfig
from tests.errors import refuses

CPU, MIDPOINT = torch.device("cpu"), SamplerConfig("midpoint", 16)


def shaken(network: nn.Module, size: float = 0.1) -> nn.Module:
    with torch.no_grad():
        for k, weight in enumerate(network.parameters()):
            weight += size * Rng(2).stream("weights", k).normal(tuple(weight.shape))
    return network


@pytest.fixture
def model() -> Model:
    return Model(shaken(MLP(width=32, depth=2).build((2,), {}, Rng(0))), data=(2,))


def drawn(model: Model, sampling: SamplerConfig, **more: Any) -> torch.Tensor:
    return model.sample_dataset(64, sampling=sampling, rng=Rng(1), **more).values


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_samples_are_close_to_float32(model: Model, precision: Any) -> None:
    seen: list[torch.dtype] = []
    exact = drawn(model, MIDPOINT)
    low = drawn(model, replace(MIDPOINT, precision=precision), on_step=lambda t, x: seen.append(x.dtype))
    assert set(seen) == {torch.float32}
    assert low.dtype == exact.dtype
    assert not torch.equal(low, exact)
    assert (low - exact).abs().max() < 0.02 * exact.std()


def test_auto_is_float32_on_the_cpu(model: Model) -> None:
    assert torch.equal(drawn(model, MIDPOINT), drawn(model, replace(MIDPOINT, precision="fp32")))
    assert resolve_precision("auto", CPU) == "fp32"
    assert autocast_dtype("auto", CPU) is None
    assert at_precision(model.network, "auto") is model.network


def test_networks_receive_and_return_float32(model: Model) -> None:
    seen: list[torch.dtype] = []

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x_t, t, cond):
            y = self.layer(x_t)
            seen.extend((x_t.dtype, t.dtype, y.dtype))
            return {"a": y, "b": torch.ones(2, dtype=torch.long)}

    network = at_precision(Inner(), "bf16")
    assert isinstance(network, MixedPrecisionNetwork)
    outputs = network(torch.ones(3, 2), torch.ones(3), {})
    assert seen == [torch.float32, torch.float32, torch.bfloat16]
    assert (outputs["a"].dtype, outputs["b"].dtype) == (torch.float32, torch.long)


def test_likelihoods_stay_float32(model: Model) -> None:
    """The sampler's precision of a model does not reach its likelihoods."""
    data, low = drawn(model, MIDPOINT), replace(model.spec, sampling=replace(MIDPOINT, precision="bf16"))
    other = Model.from_spec(low, model.network, model.objective)
    torch.testing.assert_close(other.log_prob(data), model.log_prob(data), rtol=0, atol=0)


def test_guided_and_adaptive_sampling(model: Model) -> None:
    adaptive = DormandPrince(space=model.spec.space, per_example=True)
    assert torch.equal(drawn(model, MIDPOINT, solver=adaptive), drawn(model, SamplerConfig("dopri5")))
    with refuses(UsageError):
        SamplerConfig("dopri5", precision="bf16")


def test_unknown_and_unsupported_precisions_are_refused(model: Model) -> None:
    with refuses(InputError):
        from_dict(SamplerConfig, {**to_dict(MIDPOINT), "precision": "fp8"})
    with refuses(UsageError):
        drawn(model, replace(MIDPOINT, precision="tf32"))


def test_records_without_a_precision_are_read() -> None:
    record = to_dict(SamplerConfig("euler", precision="bf16"))
    assert from_dict(SamplerConfig, record).precision == "bf16"
    record.pop("precision")
    assert from_dict(SamplerConfig, record).precision == "auto"


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("tf32", True), ("bf16", True)])
def test_tensorfloat32_is_used_unless_the_precision_is_fp32(precision: Any, expected: bool) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with float32_matmul(precision, torch.device("cuda")):
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is expected
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    with float32_matmul(precision, CPU):
        assert torch.backends.cuda.matmul.allow_tf32 is before[0]
