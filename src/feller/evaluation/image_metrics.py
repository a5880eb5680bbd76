"""Metrics of images compared with real images."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.comparison import compare_sets, flat_states, nearest_ratio, subsample
from feller.evaluation.judge import Judge, judge_accuracy
from feller.evaluation.two_sample import frechet

MAX_PAIRED = 1_000
"""Maximum number of images per class among which pairwise distances are computed."""


def image_quality(
    samples: Dataset, train: Dataset, held_out: Dataset, judge: Judge, rng: Rng
) -> dict[str, float | str | None]:
    """Compute metrics of image samples with a judge network, and distances within the samples and to the training set.

    The judge is a classifier trained on real images. Undefined values are None: `accuracy` without labels, `fd_cnn` of
    a single image, and floors (the same metrics of real images) if too few images are held out. In the last case the
    samples are compared with the training data.
    """
    sets = compare_sets(samples, train, held_out, rng)
    real = judge.features(sets.real.values)
    floor = None if sets.floor is None else fd_cnn(judge.features(sets.floor.values), real)
    return {
        "accuracy": class_accuracy(samples, judge),
        "accuracy_guess": 1 / len(judge.modality.classes) if judge.target == "label" else None,
        "judge": judge.data,
        "judge_accuracy": judge.accuracy
        if (held_out_accuracy := judge_accuracy(judge, held_out)) is None
        else held_out_accuracy,
        "fd_cnn": fd_cnn(judge.features(sets.samples.values), real),
        "fd_cnn_floor": floor,
        "distance_ratio": distance_ratio(samples, train, rng),
        "nearest_ratio": nearest_ratio(samples, train, held_out, rng),
    }


def class_accuracy(samples: Dataset, judge: Judge) -> float | None:
    """Return the fraction of samples that the judge assigns to their conditioning class; None without classes."""
    if judge.target != "label" or "label" not in samples.given:
        return None
    label = samples.given["label"].cpu()
    has_class = label < len(judge.modality.classes)  # the others are unconditional
    if not has_class.any():
        return None
    return torch.eq(judge.classify(samples.values), label)[has_class].double().mean().item()


def fd_cnn(features: Float64[Tensor, "n f"], real: Float64[Tensor, "m f"]) -> float | None:
    """Return 100 times the Fréchet distance between two sets of judge features, divided by the variance of `real`.

    Return None if either set has fewer than two images, or if all real images are equal.
    """
    if min(len(features), len(real)) < 2:
        return None
    variance = real.var(0).sum().item()
    return 100 * frechet(features, real) / variance if variance > 0 else None


def distance_ratio(samples: Dataset, train: Dataset, rng: Rng) -> float | None:
    """Return the mean distance between samples of a class, divided by that between real images of this class.

    The ratio is averaged over classes, weighted by the number of samples in each. Return None if no class has two
    samples and two different real images.
    """
    ratios, weights = [], []
    sample_labels, train_labels = _labels(samples, train)
    for label in sample_labels.unique().tolist():
        distances = [
            _mean_distance(
                flat_states(
                    subsample(data.subset((labels == label).nonzero()[:, 0]), MAX_PAIRED, rng.fold_in(name, label)),
                    train,
                )
            )
            for name, data, labels in (("samples", samples, sample_labels), ("real", train, train_labels))
        ]
        if distances[0] is not None and distances[1]:
            ratios.append(distances[0] / distances[1])
            weights.append(int((sample_labels == label).sum()))
    return sum(r * w for r, w in zip(ratios, weights, strict=True)) / sum(weights) if weights else None


def _labels(samples: Dataset, train: Dataset) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]]:
    if "label" in samples.given and "label" in train.given:
        return samples.given["label"].cpu(), train.given["label"].cpu()
    return torch.zeros(len(samples), dtype=torch.long), torch.zeros(len(train), dtype=torch.long)


def _mean_distance(x: Float[Tensor, "n d"]) -> float | None:
    """Return the mean pairwise distance; None for fewer than two examples."""
    n, x = len(x), x.double()
    return torch.cdist(x, x).fill_diagonal_(0).sum().item() / (n * (n - 1)) if n > 1 else None
