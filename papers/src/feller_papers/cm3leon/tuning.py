"""Instruction tuning: score of each task before and after."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.document_metrics import is_exact_match, token_f1
from feller.networks.sequence.gpt import GPTNetwork
from feller_papers.claims import Claim, mean_of, seeds_of, verdict
from feller_papers.cm3leon.asking import TOP_P, fill_text, sample_images, text_request
from feller_papers.cm3leon.differences import Difference, difference, format_differences
from feller_papers.cm3leon.guidance import attribute_accuracy
from feller_papers.cm3leon.models import base_model, tuned_model
from feller_papers.cm3leon.reading import read_letters, read_scenes, stack_pictures
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import ExperimentData, experiment_data
from feller_papers.scenes.documents import Document

ScoreFn = Callable[[GPTNetwork, ExperimentData, Sequence[Document], Rng], Float64[Tensor, " n"]]
"""(network, data, documents of a task, rng) -> score of each document, from 0 to 1."""
Baseline = Callable[[Sequence[Document]], tuple[str, list[float]]]
"""Documents of a task -> name and scores of a baseline without a model."""
ImageScoreFn = Callable[[UInt8[Tensor, "n 3 h w"], UInt8[Tensor, "n 3 h w"]], list[float]]
"""(pictures, real pictures) -> score of each picture."""


def _image_metric(score: ImageScoreFn) -> ScoreFn:
    def score_documents(network: GPTNetwork, data: ExperimentData, documents: Sequence[Document], rng: Rng) -> Tensor:
        images = sample_images(network, data, documents, rng, specs=(TOP_P,))
        return torch.tensor(
            score(images, stack_pictures([document.pictures()[-1] for document in documents])), dtype=torch.float64
        )

    return score_documents


def _text_metric(score: Callable[[str, str], float]) -> ScoreFn:
    def score_documents(network: GPTNetwork, data: ExperimentData, documents: Sequence[Document], rng: Rng) -> Tensor:
        requests, truth = zip(*map(text_request, documents), strict=True)
        predictions = fill_text(network, data, requests, rng)
        return torch.tensor([float(score(a, b)) for a, b in zip(predictions, truth, strict=True)], dtype=torch.float64)

    return score_documents


def scene_scores(images: UInt8[Tensor, "n 3 h w"], real: UInt8[Tensor, "n 3 h w"]) -> list[float]:
    """Return the attribute accuracy of each picture."""
    pairs = zip(read_scenes(real), read_scenes(images), strict=True)
    return [attribute_accuracy([a], [b]) for a, b in pairs]


def letter_scores(images: UInt8[Tensor, "n 3 h w"], real: UInt8[Tensor, "n 3 h w"]) -> list[float]:
    """Return the share of correct letters of each picture, position by position."""
    word_pairs = zip(read_letters(images), read_letters(real), strict=True)
    return [
        sum(a == b for a, b in zip(predicted, expected, strict=False)) / max(len(predicted), len(expected))
        for predicted, expected in word_pairs
    ]


def _unchanged(documents: Sequence[Document]) -> tuple[str, list[float]]:
    pairs = [document.pictures() for document in documents]
    return "the first picture as it is", scene_scores(
        stack_pictures([a for a, _ in pairs]), stack_pictures([b for _, b in pairs])
    )


def _most_frequent(score: Callable[[str, str], float]) -> Baseline:
    def score_documents(documents: Sequence[Document]) -> tuple[str, list[float]]:
        truth = [text_request(document)[1] for document in documents]
        answer = Counter(truth).most_common(1)[0][0]
        return "the commonest answer", [float(score(answer, target)) for target in truth]

    return score_documents


@dataclass(frozen=True)
class TaskMetric:
    """Metric of a task."""

    name: str
    """Printed name."""
    score: ScoreFn
    baseline: Baseline | None = None
    """Baseline without a model."""


TASK_METRICS = {
    "edit": TaskMetric("attributes of the scene that was asked for", _image_metric(scene_scores), _unchanged),
    "edges": TaskMetric("attributes", _image_metric(scene_scores)),
    "segmentation": TaskMetric("attributes", _image_metric(scene_scores)),
    "grounding": TaskMetric("attributes", _image_metric(scene_scores)),
    "letters": TaskMetric("letters that are read as they were asked for", _image_metric(letter_scores)),
    "caption": TaskMetric("F1 of words", _text_metric(token_f1), _most_frequent(token_f1)),
    "details": TaskMetric("F1 of words", _text_metric(token_f1), _most_frequent(token_f1)),
    "question": TaskMetric("answers that are right", _text_metric(is_exact_match), _most_frequent(is_exact_match)),
}


def _format_baseline(scores: list[tuple[str, float]]) -> str:
    return f"; {scores[0][0]} {mean_of([score for _, score in scores], 3)}" if scores else ""


def _format_gain(gains: list[Difference]) -> str:
    return f", and from what needs no model by {format_differences(gains)}" if gains else ""


def tasks(setting: Setting) -> Iterator[Claim]:
    """Score of each task before and after tuning, and of the baseline."""
    results: dict[str, list[tuple[float, float]]] = {task: [] for task in TASK_METRICS}
    gains: dict[str, list[Difference]] = {task: [] for task in TASK_METRICS}
    baselines: dict[str, list[tuple[str, float]]] = {task: [] for task in TASK_METRICS}
    baseline_gains: dict[str, list[Difference]] = {task: [] for task in TASK_METRICS}
    for seed in setting.seeds:
        data, rng = experiment_data(setting, seed), Rng(seed).fold_in("tasks")
        for task, metric in TASK_METRICS.items():
            documents = [document for document in data.test_instructions if document.task == task]
            before, after = (
                metric.score(network, data, documents, rng.fold_in(task))
                for network in (base_model(setting, seed, setting.dial), tuned_model(setting, seed))
            )
            results[task].append((before.mean().item(), after.mean().item()))
            gains[task].append(difference(before, after))
            if metric.baseline is not None:
                name, scores = metric.baseline(documents)
                baselines[task].append((name, statistics.fmean(scores)))
                baseline_gains[task].append(difference(torch.tensor(scores, dtype=torch.float64), after))
    for task, pairs in results.items():
        before, after = ([pair[i] for pair in pairs] for i in (0, 1))
        yield Claim(
            f"tuning on instructions teaches a task: {task}",
            "examples; captions and questions in table 2",
            f"{TASK_METRICS[task].name}: {mean_of(after, 3)}, before tuning"
            f" {mean_of(before, 3)}{_format_baseline(baselines[task])}",
            f"{seeds_of(setting.seeds)}; apart by"
            f" {format_differences(gains[task])}{_format_gain(baseline_gains[task])}, asked to be three"
            " standard errors",
            verdict(all(gain.significant for gain in (*gains[task], *baseline_gains[task]))),
        )
