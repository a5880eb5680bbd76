"""Shapes and types are checked in tests, as set up by `tests/shapes.py`."""

import pytest
import torch
from jaxtyping import TypeCheckError

from feller.evaluation.number_format import sentence
from feller.evaluation.two_sample import wasserstein
from feller.sampling.sampler_config import SamplerConfig
from feller.training.optimizer import TrainConfig


def test_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        wasserstein(torch.zeros(3, 2), torch.zeros(3, 4))


def test_types_of_functions_without_arrays_are_checked() -> None:
    with pytest.raises(TypeError):
        sentence(3)  # type: ignore[arg-type]


def test_types_of_methods_and_dataclasses_are_checked() -> None:
    with pytest.raises(TypeError):
        SamplerConfig().resolve("path", "space")  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError):
        TrainConfig(batch_size="x")  # type: ignore[arg-type]
