"""All metrics of samples beside real data."""

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
from feller.evaluation.comparison import has_enough_held_out, num_compared
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.evaluation.judge import Judge, as_numbers, train_judge
from feller.evaluation.metrics import HELD_OUT, TRAINED
from feller.training.engine import Engine

Measure = Callable[[Dataset, Dataset, Dataset, Rng], dict[str, float | str | None]]
"""(samples, training data, held-out data, draws) -> numbers."""

FEW_SAMPLES = 100
"""Samples below which the numbers vary much from one set of samples to the next."""
MIN_JUDGE_ACCURACY = 0.8
"""Accuracy below which a judge says little."""


OF_TRAINING = ("nearest_ratio", "copies", "copied", "passages", "dcr_share", "membership_auc", "nll_baseline")
"""How the names of numbers begin that tell of the training data."""


@dataclass(frozen=True, eq=False)
class SampleQuality:
    """How good samples are."""

    numbers: dict[str, float | str | None]
    """By their names in `METRICS`; None where something cannot be told."""
    notes: tuple[str, ...] = ()
    """What is missing and why, for people."""
    judge: Judge | None = None
    """Who looked at them, to be kept; None for points."""


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
    """Compare samples with held-out and training data, in the way of their kind.

    Args:
        samples: What a model made.
        train: Its training data.
        held_out: Real data that it has not seen; may be empty.
        rng: Source of all randomness.
        engine: Device and processes, all of which must call.
        measure: Compares data of their kind; None where a judge does, as of pictures.
        judge: Who looks at pictures; trained here if there is none yet.
        budget: Of training a judge.
        has_train: Whether the training data are there; else those that are held out stand for them, of which nothing
            is said.

    Raises:
        InputError: If there are no samples or no training data, or if the three are not of one kind.
    """
    samples, train, held_out = (data.modality.for_metrics(data) for data in (samples, train, held_out))
    modality = train.modality
    if not len(samples) or not len(train):
        raise InputError("samples and training data", f"{len(samples)} and {len(train)}")
    for name, other in (("samples", samples), ("held-out data", held_out)):
        _check_like(name, other, train)
    if measure is None:
        if (pictures := modality.view(Images)) is None:
            raise InputError(f"what measures {modality.display_name}", "none")
        if judge is None:
            judge = train_judge(train, held_out, rng.fold_in("judge"), engine, budget=budget)
        elif judge.modality != as_numbers(pictures):
            raise InputError("the judge was trained on other pictures", remedy="Leave it out, and another is trained")
        numbers = image_metrics.image_quality(samples, train, held_out, judge, rng)
    else:
        judge, numbers = None, measure(samples, train, held_out, rng)
    none = [name for name, one in numbers.items() if isinstance(one, float) and math.isnan(one)]
    numbers |= dict.fromkeys(none)
    odd = (f"no number came out of {', '.join(none)}",) if none else ()
    numbers["compared_with"] = HELD_OUT if has_enough_held_out(held_out) or not has_train else TRAINED
    if has_train:
        return SampleQuality(
            numbers, (*odd, *_held_out_notes(numbers, held_out), *_notes(samples, train, held_out, judge)), judge
        )
    kept = {name: one for name, one in numbers.items() if not name.startswith(OF_TRAINING) and "_test" not in name}
    numbers = {
        name: None if name.endswith("_floor") and not has_enough_held_out(held_out) else one
        for name, one in kept.items()
    }
    few = f"only {len(held_out):,} real examples were given, fewer than {modality.min_held_out}: too few for a verdict"
    notes = odd if has_enough_held_out(held_out) else (*odd, few)
    return SampleQuality(numbers, notes, judge)


def _check_like(name: str, other: Dataset, train: Dataset) -> None:
    """Refuse data whose values or labels mean something else than those of the training data."""
    got, expected = other.modality.comparison_key, train.modality.comparison_key
    if got != expected:
        raise InputError(f"the {name} are unlike the training data: expected {expected}", found=got)
    got, expected = other.modality.conditions, train.modality.conditions
    if "label" in other.given and "label" in train.given and got != expected:
        raise InputError(f"the {name} have other classes than the training data: expected {expected}", found=got)


def _has_no_floor(numbers: dict[str, float | str | None], name: str) -> bool:
    """Tell whether a floor is missing, though what it belongs to is not."""
    return numbers[name] is None and numbers.get(name.removesuffix("_floor"), name) is not None


def _held_out_notes(numbers: dict[str, float | str | None], held_out: Dataset) -> list[str]:
    """Say what stands in for held-out data where there are too few."""
    if has_enough_held_out(held_out):
        return []
    kind = held_out.modality
    parts = f" of {kind.count_units(held_out):,} {kind.unit_name}" if kind.unit_name and len(held_out) else ""
    few = f"{len(held_out):,} examples{parts} are held out, fewer than {kind.min_held_out}"
    there = [name for name in numbers if name.endswith("_floor") and numbers[name] is not None]
    left_out = [name for name in ("nearest_ratio",) if name in numbers]
    left_out += [name for name in numbers if name.endswith("_floor") and _has_no_floor(numbers, name)]
    floors = ", and floors are those of the training data" if there else ""
    missing = f"; without more unseen data there is no {', '.join(left_out)}" if left_out else ""
    return [f"{few}: samples were compared with the training data{floors}{missing}"]


def _notes(samples: Dataset, train: Dataset, held_out: Dataset, judge: Judge | None) -> list[str]:
    """Say what the numbers cannot tell."""
    notes = []
    used = num_compared(samples, train, held_out)
    if used < len(samples):
        why = "as many as there are training data" if used == len(train) else "to save time"
        notes.append(f"distances are those of {used:,} of the {len(samples):,} samples, {why}")
    if len(samples) < FEW_SAMPLES:
        notes.append(f"there are few samples ({len(samples)}); below {FEW_SAMPLES} the numbers vary much")
    if judge is not None and judge.target == "rotation":
        notes.append("the judge learned to tell how pictures are turned, for want of labels; there is no accuracy")
    if judge is not None and judge.accuracy is not None and judge.accuracy < MIN_JUDGE_ACCURACY:
        notes.append(f"the judge gets only {judge.accuracy:.0%} of real pictures right, so its numbers say little")
    if _other_classes(samples, train):
        notes.append("the samples have other shares of classes than the training data, which makes distances larger")
    return notes


def _other_classes(samples: Dataset, train: Dataset) -> bool:
    """Tell whether the samples have other shares of classes; a false alarm has a chance of 1 in 10,000 at most."""
    if "label" not in samples.given or "label" not in train.given:
        return False
    made, train_labels = samples.given["label"].cpu(), train.given["label"].cpu()
    classes = torch.cat([made, train_labels]).unique().tolist()
    return any(
        scipy.stats.binomtest(int((made == c).sum()), len(made), (train_labels == c).double().mean().item()).pvalue
        < 1e-4 / len(classes)
        for c in classes
    )
