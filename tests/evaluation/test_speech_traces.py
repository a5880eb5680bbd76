"""Traces of a model, and of its vocoder."""

import dataclasses

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.data.speech.griffin_lim import Vocoder
from feller.data.speech.mel import Mel
from feller.evaluation.speech.detector import SHARES, Sounds, find_traces, hiding, vocoded
from tests.evaluation.log_mels import SHORT, rough, sounds


@dataclasses.dataclass(frozen=True)
class Marking(Vocoder):
    """Says each sample as a sine that its frame is loud of; it is one sound for any log mel of the same loudness."""

    def samples(self, mel: Tensor, settings: Mel) -> Tensor:
        loud = mel.mean(1).exp().repeat_interleave(settings.hop)
        return (loud * torch.sin(torch.arange(len(loud)) * 0.3)).float()


def test_vocoded_log_mels_are_those_of_the_sound() -> None:
    settings = Mel.usual(8_000)
    mels = [torch.randn(n, 40, generator=torch.Generator().manual_seed(n)) - 4 for n in (30, 50)]
    again = vocoded(mels, settings, Marking())
    assert [each.shape for each in again] == [each.shape for each in mels]
    assert torch.equal(again[1], settings.log_mel(Marking().samples(mels[1], settings)))


def test_the_two_settings_of_the_paper() -> None:
    """A vocoder's trace tells generated sounds from originals, and not from others that went through it."""
    train, test = (
        Sounds(sounds(n, n), rough(sounds(n, n + 1), 0), {0.5: rough(sounds(n, n + 2), 0)}) for n in (24, 20)
    )
    found = find_traces(train, test, Draws(0), size=1, training=SHORT)
    assert [(each.against, each.share) for each in found] == [("original", 0.5), ("resynthesised", 0.5)]
    assert found[0].apart.accuracy > 0.9
    assert found[1].apart.accuracy < 0.8
    assert found[0].apart.real == found[0].apart.made == 20
    with pytest.raises(UsageError, match="as many sounds"):
        Sounds(sounds(2, 0), sounds(3, 0), {})


@pytest.mark.parametrize("share", SHARES)
def test_a_share_is_hidden_in_one_piece(share: float) -> None:
    valid = torch.arange(100) < torch.tensor([[100], [60]])
    hidden = hiding(share)(torch.arange(100).expand(2, 100), valid, Draws(0).at("mask"))
    for row, frames in zip(hidden, (100, 60), strict=True):
        assert int(row.sum()) == round(share * frames)
        assert int((row[1:] != row[:-1]).sum()) <= 2
