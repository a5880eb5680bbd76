"""Sounds made of log mels have those log mels."""

import pytest
import torch

from feller.core.errors import InputError
from feller.core.serialization import from_data, to_data
from feller.data.speech.griffin_lim import GriffinLim, Vocoder
from feller.data.speech.mel import Mel
from tests.data.speech.clip import TEXTS, clip

BOUND = 0.16
"""Mean difference of log mels; measured: 0.090 to 0.103 at 16 kHz, 0.10 to 0.13 at 8 kHz."""


@pytest.mark.parametrize("rate", [16_000, 8_000])
@pytest.mark.parametrize("name", TEXTS)
def test_a_resynthesis_has_nearly_the_same_mels(name: str, rate: int) -> None:
    mel = Mel.usual(rate)
    wanted = mel.log_mel(torch.from_numpy(clip(name, rate).samples))
    made = GriffinLim().samples(wanted, mel)
    assert made.shape == (len(wanted) * mel.hop,)
    difference = (mel.log_mel(made) - wanted).abs()
    assert difference.mean() < BOUND
    shifted = (mel.log_mel(made)[1:] - wanted[:-1]).abs().mean()
    assert shifted > 2 * difference.mean()  # frames are at their times


def test_more_iterations_fit_better() -> None:
    wanted = Mel().log_mel(torch.from_numpy(clip("LJ001-0008.flac").samples))
    errors = [(Mel().log_mel(GriffinLim(n).samples(wanted, Mel())) - wanted).abs().mean().item() for n in (1, 8, 32)]
    assert errors == sorted(errors, reverse=True)


def test_seeds_reproduce() -> None:
    wanted = Mel().log_mel(torch.from_numpy(clip("LJ001-0008.flac").samples[:8000]))
    first, again, other = (GriffinLim(seed=seed).samples(wanted, Mel()) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_frame_is_a_sound() -> None:
    assert GriffinLim().samples(torch.zeros(1, 80), Mel()).shape == (160,)


@pytest.mark.parametrize("mel", [torch.zeros(5, 40), torch.full((5, 80), torch.nan), torch.zeros(0, 80)])
def test_other_mels_are_refused(mel: torch.Tensor) -> None:
    with pytest.raises(InputError, match="finite log mels of 80 bands"):
        GriffinLim().samples(mel, Mel())


def test_a_vocoder_is_kept_in_a_record() -> None:
    assert from_data(Vocoder, to_data(GriffinLim(8, seed=3))) == GriffinLim(8, seed=3)  # pyrefly: ignore
