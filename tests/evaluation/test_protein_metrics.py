"""Metrics of proteins: chains with known torsions and sequences, and perplexities of sequences."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from feller.app.modalities.registration import find_recipe, registration_of
from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawChains
from feller.data.modality import Dataset
from feller.data.proteins.residues import LETTERS, numbers_of
from feller.evaluation.metrics import metric
from feller.evaluation.protein_metrics import (
    Bigram,
    composition,
    composition_distance,
    proteins_quality,
    sequence_perplexity,
)
from feller.evaluation.sample_quality import measure_quality
from feller.models.model import Model
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


def test_metrics_are_known() -> None:
    found = numbers(TEST)
    assert found.keys() <= KNOWN
    for name in found:
        if not name.endswith("_floor"):
            assert metric(name, found).reference in found


def test_real_chains() -> None:
    found = numbers(TEST)
    for name in found:
        if name in OF_SEQUENCES and not name.endswith("_floor"):
            assert found[name] == pytest.approx(found[f"{name}_floor"])
    assert found["ramachandran_typed"] > found["ramachandran_favoured"]
    assert 0.85 < found["ramachandran_typed"] < 1
    assert 0.4 < found["glycine_left"] < 0.8


def test_ramachandran_by_residue() -> None:
    sequence = "A" * 31
    assert numbers(built(HELIX, sequence))["ramachandran_typed"] == 1
    assert numbers(built(LEFT, sequence))["ramachandran_outliers"] == 1
    assert numbers(built(LEFT, "G" * 31))["ramachandran_typed"] == 1
    one = numbers(built(LEFT, "A" * 7 + "G" + "A" * 23))
    assert one["ramachandran_typed"] == pytest.approx(1 / 29)
    assert one["glycine_left"] == pytest.approx(1 / 29)
    assert one["ramachandran_favoured"] == 0  # the general table knows no glycine
    assert numbers(built(HELIX, sequence))["glycine_left"] is None  # no residue is there


def test_unknown_residues() -> None:
    one = numbers(built(LEFT, "A" + "X" * 28 + "GA"))
    assert one["ramachandran_typed"] == 1
    none = numbers(built(LEFT, "X" * 31))
    assert {name for name in none if name in OF_SEQUENCES and none[name] is None} == OF_SEQUENCES
    assert none["bond_share"] is not None


def test_shuffled_sequences() -> None:
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


def test_composition_distance_and_no_held_out() -> None:
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


def test_training_data_without_sequences() -> None:
    """Of a set of which only one chain has a sequence, parts may have none."""
    valid = REAL.given["valid"]
    bare = replace(REAL, given={**REAL.given, "valid": {**valid, "residue": valid["residue"] & False}})
    found = proteins_quality(TEST, bare, TEST, Rng(0))
    assert found["residue_gain"] is None
    assert found["composition_distance"] is None
    assert found["bigram_perplexity"] == pytest.approx(20)
    assert found["ramachandran_typed"] is not None


def test_measure_quality_of_proteins() -> None:
    assert registration_of(REAL.modality).recipe == "proteins"
    found = measure_quality(TEST, REAL, TEST, Rng(0), get_engine(), proteins_quality)
    assert found.numbers["residue_gain"] == numbers(TEST)["residue_gain"]


def written(*sequences: str) -> Dataset:
    """Return chains with these sequences; X is not known, and nonsense stands behind their ends."""
    size = max(map(len, sequences))
    residue, valid = torch.full((len(sequences), size), 7), torch.zeros(len(sequences), size, dtype=torch.bool)
    known = valid.clone()
    for i, letters in enumerate(sequences):
        numbers = torch.from_numpy(numbers_of(letters))
        residue[i, : len(letters)], valid[i, : len(letters)], known[i, : len(letters)] = numbers, True, numbers >= 0
    residue = torch.where(known, residue, 7)
    marks = {"rotation": valid, "position": valid, "residue": known}
    return Dataset(
        {"atoms": torch.zeros(len(sequences), size, 4, 3), "residue": residue}, {"valid": marks}, REAL.modality
    )


def test_composition() -> None:
    found = composition(written("AACX", "C"))
    assert found[LETTERS.index("A")] == 0.5
    assert found[LETTERS.index("C")] == 0.5
    assert composition(written("XX")) is None
    assert composition_distance(written("AAAC"), written("ACCC")) == pytest.approx(0.5)
    assert composition_distance(written("AX"), written("CC")) == pytest.approx(1)
    assert composition_distance(written("A"), written("X")) is None


def test_bigram() -> None:
    """AAC has A-A and A-C: of A two kinds follow, so that (1 + 2 p) / (2 + 2), p the share of all with one added."""
    law = Bigram.fit(written("AAC"))
    a, c = 3 / 23, 2 / 23
    assert law.unigram[0].item() == pytest.approx(a)
    assert law.bigram[0, 0].item() == pytest.approx((1 + 2 * a) / 4)
    assert law.bigram[0, 1].item() == pytest.approx((1 + 2 * c) / 4)
    torch.testing.assert_close(law.bigram.sum(1), torch.ones(20).double())
    assert law.perplexity(written("AC")) == pytest.approx((a * (1 + 2 * c) / 4) ** -0.5)
    assert law.perplexity(written("AXC")) == pytest.approx((a * c) ** -0.5)
    assert law.perplexity(written("X")) is None


def test_bigram_of_a_repeat() -> None:
    law = Bigram.fit(written("ACDE" * 50))
    assert law.perplexity(written("ACDE" * 10)) < 1.5
    assert law.perplexity(written("AEDC" * 10)) > 15


class FixedLogits(nn.Module):
    """Answers with logits of residues by a function of what is masked; `weight` says where it is."""

    def __init__(self, says: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.says = nn.Parameter(torch.zeros(1)), says

    def forward(self, x_t: dict[str, Tensor], t: dict[str, Tensor], given: dict) -> dict[str, Tensor]:
        assert (t["rotation"] == 1).all()
        assert (t["position"] == 1).all()
        share = ((x_t["residue"] == 20) & given["valid"]["residue"]).sum(1) / given["valid"]["residue"].sum(1)
        torch.testing.assert_close(t["residue"], 1 - share)
        return {"rotation": x_t["rotation"], "position": x_t["position"], "residue": self.says(x_t["residue"])}


def model(says: Callable[[Tensor], Tensor]) -> Model:
    return Model.from_spec(find_recipe("auto", REAL, "tiny")[1].model_spec(REAL), FixedLogits(says))


def test_perplexity_of_uniform_logits() -> None:
    found = sequence_perplexity(model(lambda residue: torch.zeros(*residue.shape, 20)), REAL, Rng(0), nfe=2)
    assert found == pytest.approx(20, rel=1e-6)


def test_perplexity_of_independent_residues() -> None:
    """Within 2 %: the masks are random, and the mean of 40 chains and 8 calls has a deviation of 0.4 %."""
    law = composition(REAL).log().float()
    found = sequence_perplexity(model(lambda residue: law.expand(*residue.shape, 20)), REAL, Rng(0), nfe=8)
    residue, known = REAL.values["residue"], REAL.given["valid"]["residue"]
    assert found == pytest.approx(math.exp(-law[residue[known]].double().mean().item()), rel=0.02)


def test_perplexity_of_the_exact_posterior() -> None:
    """Chains of one kind of residue, 20 of them: all that has to be told is which, log 20 in all, whatever the length.

    With as many calls as residues each number of masks comes once, so that nothing is left to chance.
    """
    row = int(REAL.given["valid"]["position"].sum(1).argmin())
    size = int(REAL.given["valid"]["position"][row].sum())
    one = REAL.subset(torch.tensor([row]))
    one = replace(one, values={**one.values, "residue": torch.full_like(one.values["residue"], 5)})

    def posterior(residue: Tensor) -> Tensor:
        if (residue[:, :size] == 20).all():
            return torch.zeros(*residue.shape, 20)
        return 100 * (torch.arange(20) == 5).float().expand(*residue.shape, 20)

    found = sequence_perplexity(model(posterior), one, Rng(0), nfe=size)
    assert found == pytest.approx(20 ** (1 / size), rel=1e-5)


def test_perplexity_counts_known_residues() -> None:
    """The same sequence with all but ten residues unknown: a law that is right for these ten alone is certain."""
    known = REAL.given["valid"]["residue"] & (torch.arange(64) < 10)
    some = replace(REAL, given={**REAL.given, "valid": {**REAL.given["valid"], "residue": known}})
    some = some.subset(torch.arange(8))
    truth = torch.where(known, REAL.values["residue"], 0)[:8]
    sure = 100 * nn.functional.one_hot(truth, 20).float()
    assert sequence_perplexity(model(lambda residue: sure), some, Rng(0), nfe=3) == pytest.approx(1)
    none = replace(REAL, given={**REAL.given, "valid": {**REAL.given["valid"], "residue": known & False}})
    assert sequence_perplexity(model(lambda residue: sure), none, Rng(0)) is None


def test_perplexity_needs_a_structure_condition() -> None:
    asked = model(lambda residue: torch.zeros(*residue.shape, 20))
    other = Model.from_spec(replace(asked.spec, conditionable=("residue",)), asked.network)
    assert sequence_perplexity(other, REAL, Rng(0)) is None
