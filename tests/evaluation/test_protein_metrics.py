"""What is measured of proteins: chains whose torsions and sequences are known, and real ones with other sequences."""

import math
from dataclasses import replace

import pytest
import torch

from feller.app.modalities.registration import registration_of
from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawChains
from feller.data.modality import Dataset
from feller.data.proteins.residues import numbers_of
from feller.evaluation.metrics import metric
from feller.evaluation.protein_metrics import proteins_quality
from feller.evaluation.sample_quality import measure_quality
from feller.training.engine import get_engine
from tests.data.proteins.test_frames import chain
from tests.evaluation.known import KNOWN

DEGREE = math.pi / 180
OF_SEQUENCES = {
    *("ramachandran_typed", "ramachandran_outliers", "composition_distance", "bigram_perplexity"),
    *("glycine_left", "residue_gain"),
}
"""Metrics that need residues."""
REAL, TEST = read("example:proteins"), read("example:proteins/test", like=read("example:proteins").modality)
HELIX, LEFT = (-63, -42), (85, -170)
"""Torsions, in degrees: of the second pair only glycine is capable."""


def built(torsion: tuple[float, float], sequence: str) -> Dataset:
    """Return one chain whose torsions repeat, with a sequence."""
    phi, psi = ([angle * DEGREE] * len(sequence) for angle in torsion)
    atoms = chain(phi, psi)
    size = REAL.modality.structure.longest
    values = torch.zeros(1, size, 4, 3, dtype=torch.float64)
    values[0, : len(sequence)] = atoms[0]
    residues = torch.full((1, size), -1)
    residues[0, : len(sequence)] = torch.from_numpy(numbers_of(sequence))
    found = RawChains(values.numpy(), lengths=torch.tensor([len(sequence)]).numpy(), residues=residues.numpy())
    return Dataset(*REAL.modality.values_from_raw(found), REAL.modality)


def numbers(samples: Dataset, held_out: Dataset = TEST) -> dict[str, float]:
    return proteins_quality(samples, REAL, held_out, Rng(0))


def test_all_numbers_are_explained_and_shown() -> None:
    found = numbers(TEST)
    assert found.keys() <= KNOWN
    for name in found:
        if not name.endswith("_floor"):
            assert metric(name, found).reference in found


def test_held_out_chains_are_their_own_floor() -> None:
    found = numbers(TEST)
    for name in found:
        if name in OF_SEQUENCES and not name.endswith("_floor"):
            assert found[name] == pytest.approx(found[f"{name}_floor"])
    assert found["ramachandran_typed"] > found["ramachandran_favoured"]
    assert 0.85 < found["ramachandran_typed"] < 1
    assert 0.4 < found["glycine_left"] < 0.8


def test_torsions_are_judged_by_the_kind_of_their_residue() -> None:
    sequence = "A" * 31
    assert numbers(built(HELIX, sequence))["ramachandran_typed"] == 1
    assert numbers(built(LEFT, sequence))["ramachandran_outliers"] == 1
    assert numbers(built(LEFT, "G" * 31))["ramachandran_typed"] == 1
    one = numbers(built(LEFT, "A" * 7 + "G" + "A" * 23))
    assert one["ramachandran_typed"] == pytest.approx(1 / 29)
    assert one["glycine_left"] == pytest.approx(1 / 29)
    assert one["ramachandran_favoured"] == 0  # the general table knows no glycine
    assert numbers(built(HELIX, sequence))["glycine_left"] is None  # no residue is there


def test_unknown_residues_do_not_count() -> None:
    one = numbers(built(LEFT, "A" + "X" * 28 + "GA"))
    assert one["ramachandran_typed"] == 1
    none = numbers(built(LEFT, "X" * 31))
    assert {name for name in none if name in OF_SEQUENCES and none[name] is None} == OF_SEQUENCES
    assert none["bond_share"] is not None


def test_exchanged_sequences_do_not_go_with_their_structures() -> None:
    """Residues of each chain in another order: same composition and same structures, but they do not fit."""
    draw, residue = torch.Generator().manual_seed(0), REAL.values["residue"].clone()
    for row, known in zip(residue, REAL.given["valid"]["residue"], strict=True):
        size = int(known.sum())
        row[:size] = row[:size][torch.randperm(size, generator=draw)]
    other = replace(REAL, values={**REAL.values, "residue": residue})
    found, real = numbers(other), numbers(REAL)
    for name in ("ramachandran_favoured", "bond_share", "composition_distance"):
        assert found[name] == real[name]
    assert found["ramachandran_typed"] < real["ramachandran_typed"] - 0.03
    assert found["ramachandran_outliers"] > real["ramachandran_outliers"] + 0.02
    assert found["glycine_left"] < 0.2 < 0.4 < real["glycine_left"]
    assert found["residue_gain"] < 0 < real["residue_gain_floor"]


def test_composition_is_compared_on_equally_many_chains() -> None:
    """Ten chains are held out, so that ten of the samples count: their distance from all 40 is not that of the 40."""
    found = numbers(REAL)
    assert found["composition_distance"] > 0
    alone = proteins_quality(REAL, REAL, TEST.subset(torch.arange(0)), Rng(0))
    assert alone["composition_distance"] == 0
    assert {name for name, value in alone.items() if value is None} == {
        "composition_distance_floor",
        "bigram_perplexity_floor",
        "residue_gain_floor",
    }
    assert alone["glycine_left_floor"] == alone["glycine_left"]


def test_training_data_without_sequences_teach_nothing() -> None:
    """Of a set of which only one chain has a sequence, parts may have none."""
    valid = REAL.given["valid"]
    bare = replace(REAL, given={**REAL.given, "valid": {**valid, "residue": valid["residue"] & False}})
    found = proteins_quality(TEST, bare, TEST, Rng(0))
    assert found["residue_gain"] is None
    assert found["composition_distance"] is None
    assert found["bigram_perplexity"] == pytest.approx(20)
    assert found["ramachandran_typed"] is not None


def test_quality_measures_proteins() -> None:
    assert registration_of(REAL.modality).recipe == "proteins"
    found = measure_quality(TEST, REAL, TEST, Rng(0), get_engine(), proteins_quality)
    assert found.numbers["residue_gain"] == numbers(TEST)["residue_gain"]
