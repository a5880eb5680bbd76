"""Whether samples are copies of what was learned from, or lie too near it."""

from dataclasses import dataclass

import torch

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.attacks.attack_scores import ORDER, Told, told
from feller.evaluation.attacks.distances import Apart, recited
from feller.evaluation.comparison import pick

QUERIES = 500
"""Examples whose nearest training example is looked for."""


@dataclass(frozen=True)
class Copied:
    """How samples stand to what was learned from."""

    copies: float
    """Share of samples that are the same as one of the training data, by the kind's own notion."""
    copies_held_out: float | None
    """The same share of examples that were not learned from."""
    nearest_ratio: float | None
    """Distance to the nearest training example, medians of samples over those of held-out examples."""
    nearness: Told | None
    """How well nearness to samples tells members from others."""
    passages: float | None = None
    """Share of samples with a long run of symbols from the training text; of texts alone."""
    passages_held_out: float | None = None
    """The same share of text that was not learned from."""


def copied(samples: Dataset, train: Dataset, held_out: Dataset, draws: Rng, kind: Apart) -> Copied:
    """Compare samples with the training data, and with as many held-out examples; for distances the sets in part.

    Args:
        samples: What the model drew.
        train: What it learned from.
        held_out: What it did not; may be empty.
        draws: Chooses the parts.
        kind: Distances that suit the data.
    """
    size = min(kind.most, len(train), len(held_out) or len(train))
    made, seen = (
        pick(samples, kind.most, draws.fold_in("samples"), ORDER),
        pick(train, size, draws.fold_in("seen"), ORDER),
    )
    asked = pick(samples, kind.asked, draws.fold_in("asked"), ORDER)
    if not len(held_out):
        return Copied(_share(kind.known(asked, train, None)), None, None, None, _recited(asked, train))
    unseen = pick(held_out, size, draws.fold_in("unseen"), ORDER)
    others = pick(held_out, kind.asked, draws.fold_in("others"), ORDER)
    near, usual = _nearest(made, unseen, pick(train, kind.among, draws.fold_in("among"), ORDER), kind)
    return Copied(
        _share(kind.known(asked, train, usual)),
        _share(kind.known(others, train, usual)),
        near / usual if usual else None,
        told(-kind.apart(seen, made).amin(1), -kind.apart(unseen, made).amin(1)) if size >= 4 else None,
        _recited(asked, train),
        _recited(others, train),
    )


def _nearest(made: Dataset, unseen: Dataset, train: Dataset, kind: Apart) -> tuple[float, float]:
    """Return how far samples, and unseen examples, are from the nearest training example, in the middle."""
    some, others = (data.subset(torch.arange(min(len(data), QUERIES))) for data in (made, unseen))
    best = [torch.full((len(data),), torch.inf, dtype=torch.float64) for data in (some, others)]
    for rows in torch.arange(len(train)).split(kind.most):
        part = train.subset(rows)
        best = [
            torch.minimum(far, kind.apart(data, part).amin(1)) for far, data in zip(best, (some, others), strict=True)
        ]
    return best[0].median().item(), best[1].median().item()


def _recited(some: Dataset, train: Dataset) -> float | None:
    marks = recited(some, train)
    return None if marks is None else _share(marks)


def _share(marks: torch.Tensor) -> float:
    return marks.double().mean().item() if len(marks) else 0.0
