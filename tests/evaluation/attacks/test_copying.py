"""Detection of copies in every modality."""

import math
from dataclasses import replace

import pytest
import torch

from feller.app.modalities.registration import registration_of
from feller.core.rng import Rng
from feller.data.examples.loaders import EXAMPLES
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset, Modality
from feller.data.points.euclidean_points import Points
from feller.data.text.modality import Text
from feller.data.text.vocabulary import Characters
from feller.evaluation.attacks.copying import CopyScores, copy_scores
from feller.evaluation.attacks.example_distances import CoordinateDistance, ExampleDistance, has_copied_run

KIND = Points(("x", "y"), (0.0, 0.0), (1.0, 1.0))
F64 = torch.float64


def apart_of(kind: Modality) -> ExampleDistance | None:
    return registration_of(kind).distance(kind)


def points(n: int, seed: int) -> Dataset:
    return Dataset(Rng(seed).stream("x").normal((n, 2)), {}, KIND)


def looked(samples: Dataset, train: Dataset, held_out: Dataset) -> CopyScores:
    kind = apart_of(train.modality)
    assert kind is not None
    return copy_scores(samples, train, held_out, Rng(0), kind)


def test_fresh_points_are_no_copies() -> None:
    found = looked(points(900, 0), points(1_000, 1), points(800, 2))
    assert found.copies < 0.005  # chance alone: about 0.01^2 of them
    assert found.copies_held_out < 0.005
    assert found.nearest_ratio == pytest.approx(1.0, abs=0.15)
    assert found.nearness.auc == pytest.approx(0.5, abs=0.05)


def test_copies_of_half_the_data() -> None:
    train = points(300, 1)
    found = looked(train.subset(torch.arange(150).repeat(3)), train, points(300, 2))
    assert found.copies == 1.0
    assert found.nearest_ratio == 0.0
    assert found.nearness.auc == pytest.approx(0.75, abs=0.06)  # half of the members at 0, the rest as others
    assert found.nearness.epsilon > 2


def test_noisy_copies() -> None:
    train = points(300, 1)
    moved = replace(train, values=train.values + 1e-5)
    assert looked(moved, train, points(300, 2)).copies > 0.95
    assert looked(moved, train, points(0, 2)).copies == 0


def test_no_held_out_examples() -> None:
    assert looked(points(20, 0), points(30, 1), points(0, 2)) == CopyScores(0.0, None, None, None)


def turns(n: int, seed: int) -> torch.Tensor:
    q, r = torch.linalg.qr(Rng(seed).stream("turn").normal((n, 3, 3), F64))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return q * torch.linalg.det(q)[:, None, None]


def reordered(valid: torch.Tensor, seed: int) -> torch.Tensor:
    """Draw an order of the real entries of each example, [n, l]; padding stays behind."""
    u = Rng(seed).stream("order").uniform(valid.shape)
    return torch.where(valid, u, 2 + torch.arange(valid.shape[1])).argsort(1)


def moved_molecules(data: Dataset) -> Dataset:
    order = reordered(data.given["valid"]["place"], 3)
    place = data.values["place"].gather(1, order[:, :, None].expand(-1, -1, 3)) @ turns(len(data), 4)
    return replace(data, values={"element": data.values["element"].gather(1, order), "place": place})


def moved_crystals(data: Dataset) -> Dataset:
    """Another order of atoms, another origin, and other names of the axes."""
    order = reordered(data.given["valid"]["place"], 3)
    place = data.values["place"].gather(1, order[:, :, None].expand(-1, -1, 3))
    place = (place + Rng(0).stream("shift").uniform((len(data), 1, 3), F64)).remainder(1)[:, :, [1, 2, 0]]
    lattice = data.values["lattice"][:, [1, 2, 0, 4, 5, 3]]
    return replace(
        data, values={"element": data.values["element"].gather(1, order), "place": place, "lattice": lattice}
    )


def moved_chains(data: Dataset) -> Dataset:
    atoms = data.values["atoms"] if isinstance(data.values, dict) else data.values
    valid = data.given["valid"]["position"] if isinstance(data.values, dict) else data.given["valid"]
    moved = torch.einsum("nlai,nij->nlaj", atoms, turns(len(atoms), 5)) + 10
    moved = torch.where(valid[:, :, None, None], moved, 0)
    return replace(data, values={**data.values, "atoms": moved} if isinstance(data.values, dict) else moved)


def as_it_is(data: Dataset) -> Dataset:
    return data


KINDS = {
    "molecules": moved_molecules,
    "perovskites": moved_crystals,
    "backbones": moved_chains,
    "proteins": moved_chains,
    "digits": as_it_is,
    "cells": as_it_is,
    "torsions": lambda data: replace(data, values=data.values + 360),
    "shakespeare": as_it_is,
}
SIZES = {"perovskites": (90, 60), "shakespeare": (300, 300), "torsions": (400, 400), "molecules": (300, 150)}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[str, Dataset, Dataset]:
    name = request.param
    if name == "perovskites":
        pytest.importorskip("pymatgen")
    train = EXAMPLES[name].load("train")
    held_out = read(f"example:{name}/test", like=train.modality)
    n, m = SIZES.get(name, (len(train), len(held_out)))
    steps = max(1, len(train) // n), max(1, len(held_out) // m)  # windows of text overlap: neighbours would be near
    return (
        name,
        train.subset(torch.arange(n) * steps[0]),
        held_out.subset(torch.arange(min(m, len(held_out))) * steps[1]),
    )


def test_copies_in_every_modality(kind: tuple[str, Dataset, Dataset]) -> None:
    name, train, held_out = kind
    found = looked(KINDS[name](train), train, held_out)
    assert found.copies > 0.99
    assert found.copies_held_out < 0.05
    assert found.nearest_ratio < 0.02
    assert found.nearness.auc > 0.98


def test_no_copies_in_every_modality(kind: tuple[str, Dataset, Dataset]) -> None:
    """Thirds of one set: the AUC of n and m that are alike has a deviation of about (12 n m / (n + m + 1))^(-1/2)."""
    _, whole, _ = kind
    n = len(whole) // 3
    made, train, unseen = (whole.subset(torch.arange(first, 3 * n, 3)) for first in range(3))
    found = looked(made, train, unseen)
    assert found.copies < 0.05
    assert found.copies_held_out < 0.05
    assert found.nearness.auc == pytest.approx(0.5, abs=4 * math.sqrt((2 * n + 1) / (12 * n * n)))
    assert found.nearest_ratio == pytest.approx(1.0, abs=0.25 if n > 50 else 0.5)


def test_shifted_passages() -> None:
    train = EXAMPLES["shakespeare"].load("train").subset(torch.arange(40))
    whole = train.modality.texts(train.values[::4])
    text_of_all = "".join(whole)  # every fourth window of 128 that goes on by 32
    length = train.modality.length
    shifted = [text_of_all[i + 17 : i + 17 + length] for i in range(0, len(text_of_all) - 2 * length, length)]
    made = replace(train, values=torch.tensor([train.modality.vocabulary.encode(one) for one in shifted]), given={})
    other = EXAMPLES["shakespeare"].load("test").subset(torch.arange(40))
    found = looked(made, train, other)
    assert (found.copies, found.passages, found.passages_held_out) == (0.0, 1.0, 0.0)
    assert found.nearness is not None


def test_distances_of_angles_and_places() -> None:
    degrees = torch.tensor([[179.5, 0.0], [-179.5, 0.0], [0.0, 90.0]], dtype=F64)
    torsions = EXAMPLES["torsions"].load("train")
    four = replace(torsions, values=torch.cat([degrees, torch.zeros(3, 2, dtype=F64)], 1), given={}, groups=None)
    far = CoordinateDistance().pairwise(four, four)
    assert far[0, 1].item() == pytest.approx(math.radians(1), rel=1e-4)
    assert far[0, 2].item() == pytest.approx(math.radians(math.hypot(179.5, 90)), rel=1e-4)
    earth = EXAMPLES["volcano"].load("train")
    poles = replace(earth, values=torch.tensor([[90.0, 0.0], [0.0, 179.5], [0.0, -179.5]], dtype=F64), given={})
    far = CoordinateDistance().pairwise(poles, poles)
    assert far[1, 2].item() == pytest.approx(math.radians(1), rel=1e-3)
    assert far[0, 1].item() == pytest.approx(math.pi / 2, rel=1e-4)


def test_distance_of_each_modality() -> None:
    kinds = {
        "adult": "HammingDistance",
        "moons": "CoordinateDistance",
        "volcano": "GeodesicDistance",
        "torsions": "GeodesicDistance",
        "digits": "CoordinateDistance",
        "shakespeare": "PassageDistance",
        "molecules": "MoleculeDistance",
        "backbones": "ChainDistance",
    }
    for name, expected in kinds.items():
        assert type(apart_of(EXAMPLES[name].load("train").modality)).__name__ == expected


def test_distances_of_documents() -> None:
    kind = Text(Characters("abcdefghijklmnopqrstuvwxyz "), 40, True)

    def texts(*some: str) -> Dataset:
        return Dataset(kind.pad([kind.vocabulary.encode(one) for one in some]), {}, kind)

    train = texts("the cat sat on the mat", "a", "nothing of the kind is here")
    asked = texts("so the cat sat on the mat", "a", "b", "cat", "")
    apart = apart_of(kind)
    far = apart.pairwise(asked, train)
    assert far[:, 0].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]  # all 17 pieces of the shorter text are in the longer one
    assert far[1].tolist() == [1.0, 0.0, 1.0]
    found = has_copied_run(asked, train)
    assert found.tolist() == [False, True, False, True, False]  # 25 symbols are no run of 22; "cat" stands there
    assert apart.is_copy(asked, train, None).tolist() == [False, True, False, False, False]
