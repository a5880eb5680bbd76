"""How right the durations of phones are that a model fills in, beside those that were heard."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

NUM_SAMPLES = 20
"""Draws whose mean is the prediction of a model that draws durations."""
SIL = 0
"""Position of silence in an inventory."""


@dataclass(frozen=True, eq=False)
class PhoneDurations:
    """Phones with what they last, in frames, of which some were filled in."""

    phone: Int[Tensor, "n m"]
    """Positions in the inventory, silence first; -1 behind the last."""
    true: Int[Tensor, "n m"]
    filled_mask: Bool[Tensor, "n m"]
    """Which were filled in; the others were known."""

    @property
    def valid(self) -> Bool[Tensor, "n m"]:
        """Which phones are there."""
        return self.phone >= 0

    @property
    def is_silence(self) -> Bool[Tensor, "n m"]:
        """Which are silences."""
        return self.phone == SIL


def durations_quality(
    predicted: Num[Tensor, "k n m"], durations: PhoneDurations, trained: PhoneDurations | None = None
) -> dict[str, float | None]:
    """Return `phone_mae`, `silence_mae`, `duration_correlation`, and, beside training data, `phone_fdd`, `silence_fdd`.

    None where nothing is left to be measured. Errors and correlation are those of the mean of all draws, distances
    those of the draws themselves, since a mean varies less than any of them. All measure what was hidden alone.

    Args:
        predicted: Draws of the durations: 20 of a model that draws (`NUM_SAMPLES`), one of a model that answers at
            once.
        durations: What is true.
        trained: Training data, of which all durations count.
    """
    mean = predicted.double().mean(0)
    numbers: dict[str, float | None] = {}
    for name, selected in (("phone", durations.valid & ~durations.is_silence), ("silence", durations.is_silence)):
        numbers[f"{name}_mae"] = masked_error(durations.true, mean, durations.filled_mask & selected)
    numbers["duration_correlation"] = masked_correlation(
        durations.true, mean, durations.filled_mask & durations.valid, durations.valid
    )
    if trained is None:
        return numbers
    for name, selected, train_selected in (
        ("phone", durations.valid & ~durations.is_silence, trained.valid & ~trained.is_silence),
        ("silence", durations.is_silence, trained.is_silence),
    ):
        numbers[f"{name}_fdd"] = duration_distance(
            predicted[:, durations.filled_mask & selected].flatten(), trained.true[train_selected]
        )
    return numbers


def masked_error(true: Num[Tensor, "n m"], predicted: Num[Tensor, "n m"], hidden: Bool[Tensor, "n m"]) -> float | None:
    """Return the mean absolute error of hidden durations, in frames, all of which count alike; None without any.

    Source: Le et al. 2023, "Voicebox", arXiv 2306.15687 (MS-MAE), as are the others.
    """
    if not hidden.any():
        return None
    return (true.double() - predicted.double()).abs()[hidden].mean().item()


def masked_correlation(
    true: Num[Tensor, "n m"], predicted: Num[Tensor, "n m"], hidden: Bool[Tensor, "n m"], valid: Bool[Tensor, "n m"]
) -> float | None:
    """Return the correlation, over utterances, of the mean guessed duration and the mean known one (MS-Corr).

    It is high where a slow speaker is made to go on slowly. None with fewer than three utterances that have both, or
    where either mean does not vary.
    """
    observed_mask = valid & ~hidden
    both = hidden.any(1) & observed_mask.any(1)
    if int(both.sum()) < 3:
        return None
    rates = torch.stack([_mean(predicted[both], hidden[both]), _mean(true[both], observed_mask[both])])
    rates = rates - rates.mean(1, keepdim=True)
    spread = rates.square().sum(1).sqrt()
    return None if (spread < 1e-9).any() else (rates.prod(0).sum() / spread.prod()).item()


def _mean(x: Num[Tensor, "n m"], mask: Bool[Tensor, "n m"]) -> Float[Tensor, " n"]:
    return torch.where(mask, x.double(), 0.0).sum(1) / mask.sum(1)


def duration_distance(a: Num[Tensor, " n"], b: Num[Tensor, " m"]) -> float | None:
    """Return the Fréchet distance between two sets of durations, in frames squared (FDD); None with fewer than two."""
    if min(len(a), len(b)) < 2:
        return None
    a, b = a.double(), b.double()
    return ((a.mean() - b.mean()).square() + (a.std() - b.std()).square()).item()
