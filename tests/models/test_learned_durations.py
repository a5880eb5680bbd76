"""Networks that say durations: what is kept stays, company changes nothing, and a record brings them back."""

from dataclasses import replace

import pytest
import torch

from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.speech.mel import MelConfig, Statistics
from feller.data.speech.modality import Speech
from feller.data.speech.phones import ARPABET, Inventory, with_word_positions
from feller.models.infilling import LearnedDurations
from feller.paths import Affine

PHONES = 157
SEEN = torch.tensor([3, 5, 8, 13, 40, 0, 6])
"""Durations of some data."""


def made(drawn: bool) -> LearnedDurations:
    lasting = LearnedDurations.stochastic(1, PHONES, SEEN) if drawn else LearnedDurations.deterministic(1, PHONES, SEEN)
    for i, weight in enumerate(lasting.module.parameters()):
        weight.data = weight.data + Rng(1).stream("weight", i).normal(weight.shape) / weight.shape[-1] ** 0.5
    return lasting


def rows(lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    n, m = len(lengths), max(lengths)
    phone = Rng(2).stream("phone").randint(PHONES, (n, m))
    duration = Rng(2).stream("duration").randint(40, (n, m))
    kept = Rng(2).stream("kept").bernoulli(0.5, (n, m))
    valid = torch.arange(m) < torch.tensor(lengths)[:, None]
    return duration, kept, phone, valid


@pytest.mark.parametrize("drawn", [False, True])
def test_those_that_are_kept_stay(drawn: bool) -> None:
    duration, kept, phone, valid = rows((9, 4))
    found = made(drawn).infill(duration, kept, phone, rng=Rng(0), valid=valid)
    known = kept & valid
    assert torch.equal(found[known], duration[known])
    assert found.dtype == torch.long
    assert (found[~valid] == 0).all()
    assert (found >= 0).all()
    hidden = torch.where(known, duration, 77)
    assert torch.equal(found, made(drawn).infill(hidden, kept, phone, rng=Rng(0), valid=valid))
    whole = made(drawn).infill(duration, torch.ones_like(kept), phone, rng=Rng(0))
    assert torch.equal(whole, duration)


@pytest.mark.parametrize("drawn", [False, True])
def test_what_is_kept_and_said_matters(drawn: bool) -> None:
    duration, kept, phone, _ = rows((9, 9))
    found = made(drawn).infill(duration, kept, phone, rng=Rng(0))
    others = made(drawn).infill(2 * duration + 9, kept, phone, rng=Rng(0))
    assert not torch.equal(found[~kept], others[~kept])
    assert not torch.equal(found, made(drawn).infill(duration, kept, (phone + 1) % PHONES, rng=Rng(0)))


@pytest.mark.parametrize("drawn", [False, True])
def test_company_changes_nothing(drawn: bool) -> None:
    duration, kept, phone, valid = rows((9, 4, 6))
    found = made(drawn).infill(duration, kept, phone, rng=Rng(0), valid=valid)
    alone = made(drawn).infill(duration[1:2, :4], kept[1:2, :4], phone[1:2, :4], rng=Rng(0, first_example=1))
    assert torch.equal(found[1, :4], alone[0])


def test_one_says_the_same_always_and_the_other_draws() -> None:
    duration, kept, phone, _ = rows((9, 9))
    for drawn in (False, True):
        lasting = made(drawn)
        found = [lasting.infill(duration, kept, phone, rng=Rng(seed)) for seed in (0, 0, 1)]
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2]) is not drawn
    assert made(False).objective.path is None
    assert isinstance(made(True).objective.path, Affine)


def test_a_record_brings_back_speech_with_its_durations_and_words() -> None:
    inventory = Inventory.of({name for phone in ARPABET for name in with_word_positions((phone,))})
    own = {"zork": (("Z", "AO", "R", "K"), ("Z", "ER", "K")), "é": (("EY",),)}
    kind = Speech(
        MelConfig(),
        Statistics(-5.0, 2.0),
        inventory,
        300,
        chains=True,
        speakers=("kim", "linda"),
        user_pronunciations=own,
        duration_regressor=LearnedDurations.deterministic(1, len(inventory), SEEN),
        duration_sampler=LearnedDurations.stochastic(2, len(inventory), SEEN),
    )
    back = from_dict(Speech, to_dict(kind))
    assert back == kind
    assert back.user_pronunciations == own
    assert [*back.aux_networks] == ["durations", "rhythm"]
    for name, module in kind.aux_networks.items():
        theirs = back.aux_networks[name].state_dict()
        assert {key: weight.shape for key, weight in module.state_dict().items()} == {
            key: weight.shape for key, weight in theirs.items()
        }
    assert replace(kind, duration_regressor=None) != kind
