"""A network in the place of a vocoder."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.data.speech.griffin_lim import LOUDEST, Vocoder
from feller.data.speech.speech_mel import Mel


class SoundNetwork(nn.Module, abc.ABC):
    """A network that makes sounds of log mels. Implement one method to add another."""

    @abc.abstractmethod
    def sound(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b n"]:
        """Return `frames * hop` samples of each, frame i the hop that begins at i hops."""


@dataclass(frozen=True, eq=False)
class Neural(Vocoder):
    """Makes sounds by a network; its weights are in no record, so what draws speech is given it anew each time."""

    network: SoundNetwork
    mel: Mel
    """How the log mels are made that it has learned from."""

    @torch.no_grad()
    def samples(self, mel: Float[Tensor, "frames bands"], settings: Mel) -> Float32[Tensor, " n"]:
        """Return `frames * hop` samples.

        Raises:
            InputError: If log mels are not finite, or of other settings.
        """
        if settings != self.mel:
            raise InputError(f"this vocoder makes sounds of log mels of {self.mel}, got {settings}; take another")
        if mel.ndim != 2 or not len(mel) or mel.shape[1] != settings.bands or not torch.isfinite(mel).all():
            raise InputError(f"expected finite log mels of {settings.bands} bands, got {list(mel.shape)}")
        weight = next(self.network.parameters())
        seen = mel.clamp(max=LOUDEST).to(weight.device, weight.dtype)
        return self.network.eval().sound(seen[None])[0].float().cpu()
