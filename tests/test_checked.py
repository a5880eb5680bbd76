"""Tests call the package with its types and shapes checked, as `tests/shapes.py` has them."""

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from feller.draws import Draws
from feller.evaluate.wasserstein import wasserstein
from feller.report.wording import sentence
from feller.sampling import Sampling


def test_sizes_that_have_to_agree() -> None:
    with pytest.raises(TypeCheckError):
        wasserstein(torch.zeros(3, 2), torch.zeros(3, 4))


def test_types_of_functions_without_arrays() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        sentence(3)  # type: ignore[arg-type]


def test_types_of_methods_and_of_records() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        Draws(0).named(3)  # type: ignore[arg-type]
    with pytest.raises((BeartypeCallHintViolation, TypeCheckError)):
        Sampling(solver=3)  # type: ignore[arg-type]
