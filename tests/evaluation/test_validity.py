"""Which single samples are valid, by the rule of their kind."""

from typing import Any

import numpy as np
import torch

from feller.app.modalities.registration import registration_of
from feller.data.loading.read import read
from feller.data.modality import Dataset


def valid(samples: Dataset) -> Any:
    return registration_of(samples.modality).valid(samples)


def spread(data: Dataset, factor: float) -> Dataset:
    """Move all atoms away from the centre of their molecule."""
    values = {**data.values, "place": factor * data.values["place"]}
    return Dataset(values, data.given, data.modality)


def test_molecules() -> None:
    """Most of QM9 follow from their distances; none do where all distances are 1.4 times as long, or 0.5 times."""
    data = read("example:molecules").subset(torch.arange(60))
    assert valid(data).mean() > 0.85
    assert not valid(spread(data, 1.4)).any()
    assert not valid(spread(data, 0.5)).any()


def test_crystals() -> None:
    data = read("example:perovskites").subset(torch.arange(60))
    assert valid(data).mean() > 0.95
    lattice = data.values["lattice"].clone()
    lattice[:, :3] /= 2
    assert not valid(Dataset({**data.values, "lattice": lattice}, data.given, data.modality)).any()


def test_chains() -> None:
    data = read("example:backbones")
    data = data.subset(torch.arange(min(len(data), 60)))
    assert valid(data).mean() > 0.9
    assert not valid(Dataset(0.8 * data.values, data.given, data.modality)).any()


def test_points_have_no_rule() -> None:
    assert valid(read("example:moons").subset(torch.arange(9))) is None


def test_marks_are_one_a_sample() -> None:
    data = read("example:molecules").subset(torch.arange(3))
    marks = valid(data)
    assert isinstance(marks, np.ndarray)
    assert marks.shape == (3,)
    assert marks.dtype == bool
