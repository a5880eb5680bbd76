"""Masks of observed entries for the training of imputation and continuation."""

import pytest
import torch

from feller.core.rng import Rng
from feller.paths import Affine
from feller.spaces import Euclidean
from feller.training.objective import FlowMatching, sample_observed_mask
from feller.training.observed_masks import EntriesGapsAndEnds, RandomEntries


def masks(*shape: int, n: int = 3_000) -> torch.Tensor:
    return EntriesGapsAndEnds().sample(torch.zeros(n, *shape), Rng(0).stream("known"))


def changes(along: torch.Tensor) -> torch.Tensor:
    """Number of changes along the last axis."""
    return (along[..., 1:] != along[..., :-1]).sum(-1)


def test_shares_of_scattered_entries_gaps_and_ends() -> None:
    """A third are scattered, and of the others three quarters are whole: a half in all, of which half are cut-offs."""
    found = masks(64, 2).mT  # [n, channels, steps]
    first = found[:, 0]
    is_end = (changes(first) <= 1) & first[:, 0] & (first == found[:, 1]).all(1)
    assert is_end.double().mean() == pytest.approx(0.25 + 0.25 * 0.5 * 2 / 65, abs=0.04)  # some gaps reach the end
    whole = ((changes(found) <= 2).all(1)) & (changes(found) > 0).any(1)
    assert whole.double().mean() == pytest.approx(0.5, abs=0.05)
    is_gap = whole & ~is_end
    shared = (found[:, 0] == found[:, 1]).all(1)[is_gap].double().mean()
    assert shared == pytest.approx(0.45, abs=0.06)  # gaps of no step are more frequent if shared
    lengths = (~found[is_gap]).sum(-1).double()
    assert lengths.max() > 40  # long gaps
    assert 17 < lengths.mean() < 25  # 64 / 3, apart from the selection


def test_gaps_of_fields_are_bands_along_either_side() -> None:
    found = masks(12, 10, 1)[..., 0]
    rows = (found == found[:, :, :1]).all((1, 2)) & ~found.all((1, 2))
    columns = (found == found[:, :1]).all((1, 2)) & ~found.all((1, 2))
    assert columns.double().mean() == pytest.approx(0.125, abs=0.04)
    assert rows.double().mean() == pytest.approx(0.125 + 0.25, abs=0.05)  # gaps and cut-offs


def test_single_entries_and_the_default() -> None:
    assert masks(1, 1).shape == (3_000, 1, 1)
    x, rng = torch.zeros(50, 9, 2), Rng(3)
    assert torch.equal(sample_observed_mask(x, 0.5, rng), sample_observed_mask(x, 0.5, rng, RandomEntries()))
    assert not sample_observed_mask(x, 0.0, rng, EntriesGapsAndEnds()).any()


def test_missing_entries_are_never_observed() -> None:
    objective = FlowMatching(Affine(), Euclidean((9, 2)), inpaint_prob=1.0, observed_masks=EntriesGapsAndEnds())
    valid = Rng(1).stream("valid").uniform((200, 9, 2)) < 0.7
    example = objective.draw({"x_1": torch.randn(200, 9, 2), "given": {"valid": valid}}, Rng(0).step(0))
    known = example["given"]["known"]
    assert known.any()
    assert not (known & ~valid).any()


def test_missing_entries_of_states_carry_no_data() -> None:
    """The value that fills a missing entry has no effect on the state, which there is the source."""
    objective = FlowMatching(Affine(), Euclidean((9, 2)), inpaint_prob=0.5)
    valid = Rng(1).stream("valid").uniform((200, 9, 2)) < 0.7
    states = []
    for fill in (0.0, 100.0):
        x_1 = torch.where(valid, Rng(2).stream("x").normal((200, 9, 2)), fill)
        states.append(objective.draw({"x_1": x_1, "given": {"valid": valid}}, Rng(0).step(0))["x_t"])
    assert torch.equal(*states)
    assert states[0][~valid].std().item() == pytest.approx(1, abs=0.1)  # pure noise, at all times
