"""How far two sets of sounds are apart: in voices, in what is said, in noise, as features see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import InputError
from feller.data.loading.raw import Sound
from feller.evaluation.speech.speaker_similarity import Voices
from feller.evaluation.two_sample import frechet

Features = Callable[[Sequence[Sound]], Tensor]
"""Sounds -> numbers [n, f]; rows of NaN are left out."""
COMPONENTS = 128
"""Directions that are kept, at most."""
FOR_EACH = 4
"""Sounds of the smaller set for each direction that is kept: their covariance is then more than chance."""
LEAST = 8
"""Sounds of a set, at least."""


@dataclass(frozen=True, eq=False)
class Components:
    """The directions in which the features of some sounds differ most."""

    mean: Float[Tensor, " f"]
    directions: Float[Tensor, "k f"]
    """Of length 1, at right angles, that of most variance first."""

    @classmethod
    def of(cls, features: Float[Tensor, "n f"], count: int) -> "Components":
        """Find so many of them, or fewer where there are no more."""
        mean = features.double().mean(0)
        return cls(mean, torch.linalg.svd(features.double() - mean, full_matrices=False).Vh[:count])

    def along(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n k"]:
        """Return how far features lie from the mean in these directions."""
        return (features.double() - self.mean) @ self.directions.T


def frechet_features(
    features: Float[Tensor, "n f"], real: Float[Tensor, "m f"], components: int | None = None
) -> float:
    """Return 100 times the Fréchet distance of features along the components of the real ones, in their variance.

    It is above zero for two sets of one law too, the more the smaller they are: compare at equal sizes.

    Args:
        features: Of the sounds that are judged; rows with NaN are left out.
        real: Of those they are set beside, which the components belong to.
        components: How many; without it, a quarter of the smaller set, at most 128.

    Raises:
        InputError: If either set is smaller than 8, or the real ones do not differ.
    """
    features, real = (rows[rows.isfinite().all(1)] for rows in (features, real))
    smaller = min(len(features), len(real))
    if smaller < LEAST:
        raise InputError(f"expected {LEAST} or more sounds in each set, got {len(features)} and {len(real)}")
    kept = min(COMPONENTS, smaller // FOR_EACH) if components is None else components
    axes = Components.of(real, kept)
    seen, beside = axes.along(features), axes.along(real)
    variance = beside.var(0).sum().item()
    if not variance > 0:
        raise InputError("the real sounds have the same features; expected different ones")
    return 100 * frechet(seen, beside) / variance


def frechet_speech(
    sounds: Sequence[Sound], real: Sequence[Sound], features: Features | None = None, components: int | None = None
) -> float:
    """Return the Fréchet distance of Resemblyzer vectors of sounds, or of other features.

    It tells voices that are missing, and noise, and hardly what is said. It is not the FSD of papers, which looks at
    wav2vec 2.0. Source: Le et al. 2023, "Voicebox", arXiv 2306.15687, whose way it is otherwise.

    Args:
        sounds: Those that are judged.
        real: Those they are set beside.
        features: What is compared; without it, the vectors of `Voices`.
        components: As of `frechet_features`.

    Raises:
        InputError: As `frechet_features`.
        UsageError: If a package is not installed.
    """
    see = features or Voices().vectors
    return frechet_features(see(sounds), see(real), components)
