"""Memorization metrics: samples that copy training examples or are too close to them."""

from dataclasses import dataclass

import torch

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.attacks.attack_scores import SELECTION_PURPOSE, MembershipScores, membership_scores
from feller.evaluation.attacks.example_distances import ExampleDistance, has_copied_run
from feller.evaluation.comparison import subsample

QUERIES = 500
"""Maximum number of examples for which the nearest training example is searched."""


@dataclass(frozen=True)
class CopyScores:
    """Metrics of samples that copy training examples."""

    copies: float
    """Fraction of samples that are copies of a training example, as defined by `ExampleDistance.is_copy`."""
    copies_held_out: float | None
    """Fraction of held-out examples that are copies of a training example, the reference value of `copies`."""
    nearest_ratio: float | None
    """Median distance from a sample to its nearest training example, divided by the same median for held-out
    examples."""
    nearness: MembershipScores | None
    """Scores of membership inference by the distance from an example to its nearest sample."""
    passages: float | None = None
    """Fraction of samples that contain a long substring of the training text; None if the data are not text."""
    passages_held_out: float | None = None
    """Fraction of held-out texts that contain a long substring of the training text, the reference value of
    `passages`."""


def copy_scores(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng, kind: ExampleDistance) -> CopyScores:
    """Compute copying metrics of samples, with held-out examples as the reference; large sets are subsampled."""
    size = min(kind.max_pairwise, len(train), len(held_out) or len(train))
    made, train_rows = (
        subsample(samples, kind.max_pairwise, rng.fold_in("samples"), SELECTION_PURPOSE),
        subsample(train, size, rng.fold_in("seen"), SELECTION_PURPOSE),
    )
    queries = subsample(samples, kind.max_queries, rng.fold_in("asked"), SELECTION_PURPOSE)
    if not len(held_out):
        return CopyScores(
            _fraction(kind.is_copy(queries, train, None)), None, None, None, _copied_run_fraction(queries, train)
        )
    held_out_rows = subsample(held_out, size, rng.fold_in("unseen"), SELECTION_PURPOSE)
    held_out_queries = subsample(held_out, kind.max_queries, rng.fold_in("others"), SELECTION_PURPOSE)
    distance, reference = _nearest_distances(
        made, held_out_rows, subsample(train, kind.max_neighbours, rng.fold_in("among"), SELECTION_PURPOSE), kind
    )
    return CopyScores(
        _fraction(kind.is_copy(queries, train, reference)),
        _fraction(kind.is_copy(held_out_queries, train, reference)),
        distance / reference if reference else None,
        membership_scores(-kind.pairwise(train_rows, made).amin(1), -kind.pairwise(held_out_rows, made).amin(1))
        if size >= 4
        else None,
        _copied_run_fraction(queries, train),
        _copied_run_fraction(held_out_queries, train),
    )


def _nearest_distances(
    samples: Dataset, held_out: Dataset, train: Dataset, distance: ExampleDistance
) -> tuple[float, float]:
    """Return the median distance to the nearest training example, for samples and for held-out examples."""
    queries, references = (data.subset(torch.arange(min(len(data), QUERIES))) for data in (samples, held_out))
    nearest = [torch.full((len(data),), torch.inf, dtype=torch.float64) for data in (queries, references)]
    for rows in torch.arange(len(train)).split(distance.max_pairwise):
        chunk = train.subset(rows)
        nearest = [
            torch.minimum(smallest, distance.pairwise(data, chunk).amin(1))
            for smallest, data in zip(nearest, (queries, references), strict=True)
        ]
    return nearest[0].median().item(), nearest[1].median().item()


def _copied_run_fraction(samples: Dataset, train: Dataset) -> float | None:
    is_copied = has_copied_run(samples, train)
    return None if is_copied is None else _fraction(is_copied)


def _fraction(mask: torch.Tensor) -> float:
    return mask.double().mean().item() if len(mask) else 0.0
