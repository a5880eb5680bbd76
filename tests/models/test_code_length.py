"""NLL and log-density per row, with standard errors."""

import pandas as pd
import pytest
import torch

import feller
import feller.paths
from feller.app.modalities.registration import find_recipe
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.evaluation.flow_metrics import FlowMetricOptions, flow_quality
from feller.models.families.elbo import SamplingRates
from feller.models.model import Model
from feller.paths import Affine, KineticOptimalRates, Reversal
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Tokens
from tests.errors import numbers, refuses

NAMES = ["john", "maria", "anna", "peter", "paul", "george", "kevin", "elizabeth"]


def untrained(recipe: str) -> Model:
    data = feller.read(NAMES)
    about = find_recipe(recipe, data, "tiny")[1].model_spec(data)
    network = about.build(Rng(0))
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            weight += 0.1 * Rng(0).stream("weights", number).normal(tuple(weight.shape))
    return Model.from_spec(about, network)


@pytest.mark.parametrize("recipe", ["text", "text-uniform", "text-autoregressive"])
def test_nll_per_row(recipe: str) -> None:
    model = untrained(recipe)
    for rows in (["", "maria", "", "john"], pd.DataFrame({"text": ["", "maria", "", "john"]})):
        found = model.nll(rows, times=4)
        assert found.shape == (4,)
        alone = [model.nll([row], times=4, rng=Rng(0, i)) for i, row in enumerate(["", "maria", "", "john"])]
        torch.testing.assert_close(found, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert model.nll([""], times=2).shape == (1,)


def test_dropped_rows_are_refused(tmp_path) -> None:
    angles = pd.DataFrame({"phi": [0.1, 0.2, None, 0.4] * 5, "psi": [1.0] * 20})
    data = feller.read(angles)
    about = find_recipe("auto", data, "tiny")[1].model_spec(data)
    model = Model.from_spec(about, about.build(Rng(0)))
    with refuses(UsageError) as caught:
        model.log_prob(angles)
    assert numbers(caught.value.found)[0] == "15"
    assert model.log_prob(feller.read(angles, like=data.modality), sampling=SamplerConfig("euler", 1)).shape == (15,)
    assert len(feller.read(["", "john"], like=untrained("text").spec.modality)) == 1


@pytest.mark.parametrize("recipe", ["text", "text-uniform"])
def test_std_err_of_nll(recipe: str) -> None:
    """Of 60 estimates of each of 3 names, each deviation is known to 9 %: 4 of these."""
    model, rows = untrained(recipe), NAMES[:3] * 60
    nats, std_err = model.nll(rows, times=8, return_std_err=True)
    spread = nats.view(60, 3).std(0)
    claimed = std_err.view(60, 3).square().mean(0).sqrt()
    assert ((claimed / spread).log().abs() < 0.4).all()
    more = model.nll(rows, times=16, return_std_err=True).std_err
    assert 1.2 < (std_err.square().mean() / more.square().mean()).item() < 6  # 2 for plain draws, more with strata


def test_exact_nll_has_no_std_err() -> None:
    nats, std_err = untrained("text-autoregressive").nll(NAMES, return_std_err=True)
    assert nats.isfinite().all()
    assert not std_err.any()
    assert untrained("text").nll(NAMES[:1], times=1, return_std_err=True).std_err.isnan().all()


def test_bits_per_token_of_both_bounds() -> None:
    model, names = untrained("text-uniform"), ("bits_per_token", "bits_per_token_sampled")
    data = feller.read(NAMES, like=model.spec.modality)
    found = flow_quality(model, data, FlowMetricOptions(rng=Rng(0)))
    assert tuple(found) == names
    own = model.nll(data, elbo=SamplingRates(), times=32, rng=Rng(0).fold_in("code"))
    symbols = int(data.modality.num_entries(data.values).sum())
    assert found[names[1]] == pytest.approx(own.sum().item() / torch.tensor(2.0).log().item() / symbols)
    assert tuple(flow_quality(untrained("text"), data, FlowMetricOptions(rng=Rng(0)))) == names[:1]


def test_rates_of_the_sampler() -> None:
    model = untrained("text-uniform")
    about = model.spec
    for rates in (Reversal(), KineticOptimalRates()):
        path, _, _ = SamplerConfig("euler", 4, rates=rates).resolve(about.path, about.space)
        assert path.velocity == rates
    sampled = model.sample_dataset(4, sampling=SamplerConfig("euler", 4, rates=Reversal()))
    assert sampled.values.shape == about.modality.encode(sampled.values).shape
    with refuses(UsageError):
        SamplerConfig(rates=Reversal()).resolve(Affine(), about.space)
    metric = feller.paths.MetricPath(feller.paths.LevelDistance(3))
    with refuses(UsageError):
        SamplerConfig("euler", rates=Reversal()).resolve(metric, Tokens(3, (2,)))
    mask = feller.paths.Mixture(source=MaskSource())
    assert (
        SamplerConfig("euler", rates=Reversal()).resolve(mask, Tokens(3, (2,), MaskSource()))[0].velocity == Reversal()
    )


def test_log_prob_with_guidance_needs_conditions() -> None:
    model = feller.Model(lambda x, t: -x, data=(2,))
    x = torch.zeros(2, 2)
    assert model.log_prob(x).shape == (2,)
    with refuses(UsageError, argument="guidance"):
        model.log_prob(x, guidance=2.0)
