"""Metrics of predicted phone durations: errors, correlation and Fréchet distance."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

NUM_SAMPLES = 20
"""Number of samples over which the prediction of a generative duration model is averaged."""
SIL = 0
"""Index of silence in the phone inventory."""


@dataclass(frozen=True, eq=False)
class PhoneDurations:
    """Phones with their true durations, and the mask of phones whose durations are predicted."""

    phone: Int[Tensor, "n m"]
    """Index of each phone in the phone inventory, where silence is first; -1 for padding."""
    true: Int[Tensor, "n m"]
    """True durations in frames."""
    filled_mask: Bool[Tensor, "n m"]
    """True for phones whose duration is predicted; the durations of other phones are observed."""

    @property
    def valid(self) -> Bool[Tensor, "n m"]:
        """Mask that is True for phones and False for padding."""
        return self.phone >= 0

    @property
    def is_silence(self) -> Bool[Tensor, "n m"]:
        """Mask that is True for silences."""
        return self.phone == SIL


def durations_quality(
    predicted: Num[Tensor, "k n m"], durations: PhoneDurations, trained: PhoneDurations | None = None
) -> dict[str, float | None]:
    """Return metrics of predicted phone durations.

    These are `phone_mae`, `silence_mae` and `duration_correlation`, and if `trained` is given, also the Fréchet
    distances `phone_fdd` and `silence_fdd`. All metrics use the predicted durations only, and are None if no duration
    is predicted. Errors and correlation use the mean over samples. Fréchet distances use the samples themselves, since
    the mean over samples has a smaller variance.

    Args:
        predicted: k samples of the durations: `NUM_SAMPLES` from a generative model, 1 from a deterministic model.
        durations: Phones with their true durations.
        trained: Phones and durations of the training data, for the Fréchet distances.
    """
    mean = predicted.double().mean(0)
    metrics: dict[str, float | None] = {}
    for name, selected in (("phone", durations.valid & ~durations.is_silence), ("silence", durations.is_silence)):
        metrics[f"{name}_mae"] = masked_error(durations.true, mean, durations.filled_mask & selected)
    metrics["duration_correlation"] = masked_correlation(
        durations.true, mean, durations.filled_mask & durations.valid, durations.valid
    )
    if trained is None:
        return metrics
    for name, selected, train_selected in (
        ("phone", durations.valid & ~durations.is_silence, trained.valid & ~trained.is_silence),
        ("silence", durations.is_silence, trained.is_silence),
    ):
        metrics[f"{name}_fdd"] = duration_distance(
            predicted[:, durations.filled_mask & selected].flatten(), trained.true[train_selected]
        )
    return metrics


def masked_error(true: Num[Tensor, "n m"], predicted: Num[Tensor, "n m"], hidden: Bool[Tensor, "n m"]) -> float | None:
    """Return the mean absolute error, in frames, of the durations that `hidden` marks; None if it marks no duration.

    Source: Le et al. 2023, "Voicebox", arXiv 2306.15687 (MS-MAE), as for the other metrics.
    """
    if not hidden.any():
        return None
    return (true.double() - predicted.double()).abs()[hidden].mean().item()


def masked_correlation(
    true: Num[Tensor, "n m"], predicted: Num[Tensor, "n m"], hidden: Bool[Tensor, "n m"], valid: Bool[Tensor, "n m"]
) -> float | None:
    """Return the correlation, over utterances, between the mean predicted and the mean observed duration (MS-Corr).

    In each utterance, the first mean is over the predicted durations of the phones that `hidden` marks, and the second
    over the true durations of all other phones; `valid` is False for padding. The correlation is high if predictions
    keep the speaking rate of the context. It is None if fewer than three utterances have both predicted and observed
    durations, or if either mean is constant over utterances.
    """
    observed_mask = valid & ~hidden
    has_both = hidden.any(1) & observed_mask.any(1)
    if int(has_both.sum()) < 3:
        return None
    means = torch.stack([_mean(predicted[has_both], hidden[has_both]), _mean(true[has_both], observed_mask[has_both])])
    means = means - means.mean(1, keepdim=True)
    norms = means.square().sum(1).sqrt()
    return None if (norms < 1e-9).any() else (means.prod(0).sum() / norms.prod()).item()


def _mean(x: Num[Tensor, "n m"], mask: Bool[Tensor, "n m"]) -> Float[Tensor, " n"]:
    return torch.where(mask, x.double(), 0.0).sum(1) / mask.sum(1)


def duration_distance(a: Num[Tensor, " n"], b: Num[Tensor, " m"]) -> float | None:
    """Return the Fréchet distance (FDD) of two sets of durations, in frames squared; None if a set has fewer than 2."""
    if min(len(a), len(b)) < 2:
        return None
    a, b = a.double(), b.double()
    return ((a.mean() - b.mean()).square() + (a.std() - b.std()).square()).item()
