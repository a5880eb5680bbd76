"""Comparison of losses and probability paths, with the same network, data and number of steps."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from feller.evaluation.speech.speaker_similarity import SpeakerEncoder
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.voicebox.filling import (
    GUIDANCE_WEIGHT,
    NFE,
    PROMPT_WORDS,
    Metrics,
    evaluate_infilling,
    infill_words,
    infilled_segments,
    sample_task,
)
from feller_papers.voicebox.judges import clip_words
from feller_papers.voicebox.models import FRAME_MODELS, PATHS, TrainedModels, evaluate_seeds
from feller_papers.voicebox.pieces import Segments, cut_segments
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.sounds import synthesize
from feller_papers.voicebox.spoken import format_column_means, requires_speech

LOSS_MODELS = ("flow", "regression", "everywhere")
LOW_NFE = 4
"""Network evaluations at which paths are compared."""
TOLERANCE = 0.05
"""Largest difference of accuracy between models that count as equal."""

SPEAKER_ENCODER = SpeakerEncoder()


@dataclass(frozen=True)
class LossComparison:
    """Metrics by the judges, and speaker similarity by Resemblyzer."""

    metrics: Metrics
    voice: float
    """Mean cosine similarity of Resemblyzer embeddings of prompts and infilled speech."""


def evaluate_losses(trained: TrainedModels) -> dict[str, LossComparison]:
    """Return the metrics of models with different losses on the same words."""
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("losses")
    task, real = sample_task(digits.test, setting.num_chains, rng), clip_words(digits.test)
    rows = task.rows
    subset = slice(setting.few_chains)
    prompts = cut_segments(rows.x, rows.duration, rows.word, [0] * len(rows.x), [PROMPT_WORDS - 1] * len(rows.x))
    prompt_embeddings = _speaker_embeddings(trained, prompts, subset)
    results = {}
    for model in ("real", *LOSS_MODELS):
        x = rows.x if model == "real" else infill_words(trained.network(model), FRAME_MODELS[model].path, task, rng)
        embeddings = _speaker_embeddings(trained, infilled_segments(task, x), subset)
        results[model] = LossComparison(
            evaluate_infilling(trained.judges, task, x, real), float((prompt_embeddings * embeddings).sum(1).mean())
        )
        if model == "real":
            speaker = rows.speaker[subset]
            other = speaker[:, None] != speaker[None]
            cosine = float((prompt_embeddings @ embeddings.T)[other].mean()) if other.any() else 0.0
            results["others"] = LossComparison(results[model].metrics, cosine)
    return results


def _speaker_embeddings(trained: TrainedModels, segments: Segments, rows: slice) -> Float[Tensor, "n f"]:
    pairs = zip(segments.x[rows], segments.valid[rows], strict=True)
    return SPEAKER_ENCODER.embed([synthesize(mel[valid], trained.digits) for mel, valid in pairs])


@requires_speech(
    "flow matching copies voices better than regression", "similarity .597, regression .520; error 2.1 and 2.0 %"
)
def losses(setting: Setting) -> Iterator[Claim]:
    """Similarity and accuracy of flow matching, regression, and a loss on all frames."""
    results = evaluate_seeds(setting, evaluate_losses)
    labels = {"real": "real", "flow": "flow", "everywhere": "flow, loss on all frames", "regression": "regression"}

    def format_means(metric: str) -> str:
        values = {
            model: [vars(result[model] if metric == "voice" else result[model].metrics)[metric] for result in results]
            for model in labels
        }
        return ", ".join(f"{labels[model]} {mean_of(scores, 3)}" for model, scores in values.items())

    similarities = (
        f"Resemblyzer: {format_means('voice')}, other speakers"
        f" {mean_of([result['others'].voice for result in results], 3)};"
        f" by a small network: {format_means('similarity')}"
    )
    gaps = [result["flow"].voice - result["regression"].voice for result in results]
    yield Claim(
        "flow matching is more like the voice of the prompt than regression, with the same network",
        "similarity .597 against .520",
        f"similarity by {similarities}; {setting.comparison_steps:,} steps each",
        f"{spread_of(gaps)}, more by Resemblyzer",
        verdict(min(gaps) > 0),
    )
    gaps = [result["flow"].metrics.accuracy - result["regression"].metrics.accuracy for result in results]
    yield Claim(
        "words of flow matching and of regression are understood alike",
        "word error rate 2.1 and 2.0 %",
        f"words that are right: {format_means('accuracy')}",
        f"{spread_of(gaps)}, more of flow matching; asked to be within {TOLERANCE:g}",
        verdict(max(map(abs, gaps)) <= TOLERANCE),
    )
    gaps = [result["regression"].metrics.distance - result["flow"].metrics.distance for result in results]
    yield Claim(
        "words of flow matching lie closer to real ones than those of regression",
        "FSD 242.5 against 278.8",
        f"FD-cnn: {format_means('distance')}",
        f"{spread_of(gaps)}, less of flow matching",
        verdict(min(gaps) > 0),
    )
    gaps = [result["flow"].voice - result["everywhere"].voice for result in results]
    yield Claim(
        "a loss on hidden frames copies voices better than one on all",
        "similarity .597 against .528; word error rate 2.1 and 2.0 %",
        f"similarity by {similarities}",
        f"{spread_of(gaps)}, more by Resemblyzer",
        verdict(min(gaps) > 0),
    )


def evaluate_paths(trained: TrainedModels) -> dict[str, tuple[Metrics, ...]]:
    """Return the metrics of models with different paths on the same words, by number of network evaluations."""
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("paths")
    task, real = sample_task(digits.test, setting.num_chains, rng), clip_words(digits.test)
    results = {}
    for model in PATHS:
        network, path = trained.network(model), FRAME_MODELS[model].path
        samples = (infill_words(network, path, task, rng, nfe=nfe) for nfe in setting.nfes)
        results[model] = tuple(evaluate_infilling(trained.judges, task, x, real) for x in samples)
    return results


@requires_speech(
    "the linear path needs fewer calls", "word error rate at 4 calls 2.4, diffusion 11.5, score matching 94.5 %"
)
def paths(setting: Setting) -> Iterator[Claim]:
    """Linear path, diffusion path and score matching, by the number of network evaluations."""
    results = evaluate_seeds(setting, evaluate_paths)
    index = setting.nfes.index(LOW_NFE)
    accuracies = {model: [result[model][index].accuracy for result in results] for model in PATHS}

    def format_table(metric: str) -> str:
        means = {
            model: format_column_means([getattr(row, metric) for row in result[model]] for result in results)
            for model in PATHS
        }
        return "; ".join(f"{label} {means[model]}" for model, label in PATHS.items())

    nfes = ", ".join(map(str, setting.nfes))
    gaps = [a - b for a, b in zip(accuracies["flow"], accuracies["diffusion"], strict=True)]
    yield Claim(
        f"at {LOW_NFE} calls the linear path is better than the diffusion path",
        "word error rate by 4, 8, 16, 32 calls: 2.4, 2.2, 2.2, 2.1 against 11.5, 3.0, 2.7, 2.6 %",
        f"words that are right by {nfes} calls: {format_table('accuracy')}; guidance {GUIDANCE_WEIGHT:g},"
        f" {setting.comparison_steps:,} steps",
        f"{spread_of(gaps)}, more of the words at {LOW_NFE} calls",
        verdict(min(gaps) > 0),
    )
    gaps = [b - c for b, c in zip(accuracies["diffusion"], accuracies["score"], strict=True)]
    yield Claim(
        f"at {LOW_NFE} calls score matching is the worst",
        "word error rate by 4, 8, 16, 32 calls: 94.5, 42.3, 11.5, 5.1 %",
        f"similarity by a small network, by {nfes} calls: {format_table('similarity')}",
        f"{spread_of(gaps)}, fewer of the words than the diffusion path",
        verdict(min(gaps) > 0),
    )
    last = setting.nfes.index(NFE)
    gaps = [result["flow"][last].accuracy - max(row.accuracy for row in result["flow"]) for result in results]
    yield Claim(
        f"the linear path is as good at {NFE} calls as at any number",
        "word error rate 2.2 % at 8 calls, 2.1 % at 32",
        f"FD-cnn by {nfes} calls: {format_table('distance')}",
        f"{spread_of(gaps)}, more of the words than at the best; asked to be at least {-TOLERANCE:g}",
        verdict(min(gaps) >= -TOLERANCE),
    )
