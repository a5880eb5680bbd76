"""Measures of sequences: composition, a law of neighbours, and what a model says given the structure."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from feller.app.modalities.registration import find_recipe
from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.proteins.residues import LETTERS, numbers_of
from feller.evaluation.protein_metrics import Bigram, composition, composition_distance, sequence_perplexity
from feller.models.model import Model

REAL = read("example:proteins")


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


def test_composition_counts_known_residues() -> None:
    found = composition(written("AACX", "C"))
    assert found[LETTERS.index("A")] == 0.5
    assert found[LETTERS.index("C")] == 0.5
    assert composition(written("XX")) is None
    assert composition_distance(written("AAAC"), written("ACCC")) == pytest.approx(0.5)
    assert composition_distance(written("AX"), written("CC")) == pytest.approx(1)
    assert composition_distance(written("A"), written("X")) is None


def test_law_of_neighbours_by_hand() -> None:
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


def test_law_of_neighbours_knows_what_repeats() -> None:
    law = Bigram.fit(written("ACDE" * 50))
    assert law.perplexity(written("ACDE" * 10)) < 1.5
    assert law.perplexity(written("AEDC" * 10)) > 15


class Says(nn.Module):
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
    return Model.from_spec(find_recipe("auto", REAL, "tiny")[1].model_spec(REAL), Says(says))


def test_a_blind_guess_has_perplexity_20() -> None:
    found = sequence_perplexity(model(lambda residue: torch.zeros(*residue.shape, 20)), REAL, Rng(0), nfe=2)
    assert found == pytest.approx(20, rel=1e-6)


def test_independent_residues_have_the_perplexity_of_their_law() -> None:
    """Within 2 %: the masks are random, and the mean of 40 chains and 8 calls has a deviation of 0.4 %."""
    law = composition(REAL).log().float()
    found = sequence_perplexity(model(lambda residue: law.expand(*residue.shape, 20)), REAL, Rng(0), nfe=8)
    residue, known = REAL.values["residue"], REAL.given["valid"]["residue"]
    assert found == pytest.approx(math.exp(-law[residue[known]].double().mean().item()), rel=0.02)


def test_the_bound_is_tight_for_the_true_posterior() -> None:
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


def test_only_known_residues_count() -> None:
    """The same sequence with all but ten residues unknown: a law that is right for these ten alone is certain."""
    known = REAL.given["valid"]["residue"] & (torch.arange(64) < 10)
    some = replace(REAL, given={**REAL.given, "valid": {**REAL.given["valid"], "residue": known}})
    some = some.subset(torch.arange(8))
    truth = torch.where(known, REAL.values["residue"], 0)[:8]
    sure = 100 * nn.functional.one_hot(truth, 20).float()
    assert sequence_perplexity(model(lambda residue: sure), some, Rng(0), nfe=3) == pytest.approx(1)
    none = replace(REAL, given={**REAL.given, "valid": {**REAL.given["valid"], "residue": known & False}})
    assert sequence_perplexity(model(lambda residue: sure), none, Rng(0)) is None


def test_a_model_that_takes_no_structure_is_not_asked() -> None:
    asked = model(lambda residue: torch.zeros(*residue.shape, 20))
    other = Model.from_spec(replace(asked.spec, conditionable=("residue",)), asked.network)
    assert sequence_perplexity(other, REAL, Rng(0)) is None
