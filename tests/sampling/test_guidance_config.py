"""Variants of guidance by name: each is its function, and what they refuse."""

import pytest
import torch

from feller.core.errors import UsageError
from feller.paths import Affine, Geodesic, NoisePrediction
from feller.sampling.guidance import cfg
from feller.sampling.guidance_config import GuidanceVariant
from feller.sampling.guidance_variants import apg, cfg_rescale, cfg_zero_star
from feller.spaces import Sphere
from tests.errors import refuses
from tests.sampling.test_guidance_variants import LABEL, NULLS, T, X
from tests.sampling.test_guidance_variants import network as plain


def network(x, t, cond):
    return plain(x, t, cond)


network.null_values = NULLS  # pyrefly: ignore[missing-attribute]
FUNCTIONS = {
    "cfg": lambda: cfg(network, 3.0, interval=(0.2, 0.9)),
    "rescale": lambda: cfg_rescale(network, 3.0, interval=(0.2, 0.9)),
    "zero-star": lambda: cfg_zero_star(network, 3.0, interval=(0.2, 0.9)),
    "apg": lambda: apg(network, 3.0, Affine(), interval=(0.2, 0.9)),
}


@pytest.mark.parametrize("method", FUNCTIONS)
def test_each_name_is_its_function(method: str) -> None:
    variant = GuidanceVariant(method, (0.2, 0.9))
    expected = FUNCTIONS[method]()(X, T, LABEL)
    assert torch.equal(variant.apply(network, 3.0, Affine(), ("label",))(X, T, LABEL), expected)
    assert variant.apply(network, 1.0, Affine(), ("label",)) is network


def test_what_variants_refuse() -> None:
    for arguments in ({"method": "best"}, {"interval": (0.5, 0.2)}, {"interval": (0.0, 1.5)}):
        with pytest.raises(UsageError):
            GuidanceVariant(**arguments)
    with refuses(UsageError, argument="guidance"):
        GuidanceVariant("apg").apply(network, {"label": 2.0}, Affine(), ("label",))
    with refuses(UsageError, argument="guidance_method"):
        GuidanceVariant("rescale").apply(network, 2.0, Geodesic(Sphere(2)), ("label",))
    with refuses(UsageError, argument="guidance_method"):
        GuidanceVariant("zero-star").apply(network, 2.0, Affine(prediction=NoisePrediction()), ("label",))
