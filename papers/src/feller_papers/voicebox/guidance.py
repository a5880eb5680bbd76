"""Effect of guidance on accuracy, similarity and diversity, and of the prompt length on similarity."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from feller.data.speech.phones import frames_of
from feller_papers.claims import Claim, numbers_of, spread_of, verdict
from feller_papers.voicebox.chains import concatenate_clips, sample_chains
from feller_papers.voicebox.filling import (
    GUIDANCE_WEIGHT,
    NFE,
    PROMPT_WORDS,
    TARGET_WORDS,
    InfillingTask,
    evaluate_infilling,
    infill_words,
    infilled_segments,
    sample_task,
)
from feller_papers.voicebox.judges import clip_words
from feller_papers.voicebox.models import FRAME_MODELS, MAIN, TrainedModels, evaluate_seeds
from feller_papers.voicebox.pieces import cut_segments
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import format_column_means, requires_speech

MAX_PROMPT_WORDS = 3
"""Longest prompt."""


@dataclass(frozen=True)
class GuidanceMetrics:
    """Metrics at one guidance weight, and the diversity of samples of the same text."""

    accuracy: float
    similarity: float
    distance: float
    diversity: float
    """Root mean square over target frames of the standard deviation over samples; that of the data is 1."""


def evaluate(trained: TrainedModels) -> tuple[GuidanceMetrics, ...]:
    """Return the metrics and the diversity of several samples per text, by guidance weight."""
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("guidance")
    task, real = sample_task(digits.test, setting.few_chains, rng), clip_words(digits.test)
    rows = task.rows
    hidden = frames_of(task.hidden, rows.duration, rows.x.shape[1])
    results = []
    for guidance in setting.guidance_weights:
        samples = torch.stack(
            [
                infill_words(trained.network(MAIN), FRAME_MODELS["flow"].path, task, rng.fold_in(i), guidance=guidance)
                for i in range(setting.num_samples)
            ]
        )
        metrics = [evaluate_infilling(trained.judges, task, x, real) for x in samples]
        results.append(
            GuidanceMetrics(
                statistics.fmean(m.accuracy for m in metrics),
                statistics.fmean(m.similarity for m in metrics),
                statistics.fmean(m.distance for m in metrics),
                samples.var(0)[hidden].mean().sqrt().item(),
            )
        )
    return tuple(results)


@requires_speech(
    "guidance: words and voices gain, diversity falls", "0.7 above the plain conditional for words and voices"
)
def weights(setting: Setting) -> Iterator[Claim]:
    """Accuracy, similarity and diversity by the guidance weight."""
    results = evaluate_seeds(setting, evaluate)
    weights_text = numbers_of(setting.guidance_weights)

    def format_table(metric: str) -> str:
        return format_column_means([getattr(m, metric) for m in row] for row in results)

    index = setting.guidance_weights.index(GUIDANCE_WEIGHT)
    gains = [row[index].accuracy - row[0].accuracy for row in results]
    yield Claim(
        f"guidance makes words easier to understand: weight {GUIDANCE_WEIGHT:g} against none",
        "weight 1.7 for words and voices, 1 for diversity; from 8 calls on larger ones are better",
        f"words that are right at weights {weights_text}: {format_table('accuracy')}; {NFE} calls,"
        f" {setting.num_samples} draws each",
        f"{spread_of(gains)}, more of the words",
        verdict(min(gains) > 0),
    )
    gains = [row[index].similarity - row[0].similarity for row in results]
    yield Claim(
        f"guidance makes voices more alike: weight {GUIDANCE_WEIGHT:g} against none",
        "from 8 calls on larger weights are better",
        f"similarity by a small network at weights {weights_text}: {format_table('similarity')}",
        f"{spread_of(gains)}, more",
        verdict(min(gains) > 0),
    )
    steps = [max(b.diversity - a.diversity for a, b in pairwise(row)) for row in results]
    yield Claim(
        "the larger the weight, the less diverse are draws of the same text",
        "FSD: smaller weights are better",
        f"deviation of log mels over draws at weights {weights_text}: {format_table('diversity')};"
        f" FD-cnn {format_table('distance')}",
        f"{spread_of(steps)}, largest change from a weight to the next",
        verdict(max(steps) < 0),
    )


def evaluate_prompts(trained: TrainedModels) -> tuple[tuple[float, float], ...]:
    """Return the similarity to three words of the speaker, and the accuracy, for prompts of 0 to 3 words.

    Target words and the three reference words are the same for each length; the prompt is the last reference words.
    """
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("prompts")
    chains = sample_chains(
        digits.test,
        setting.num_chains,
        rng,
        min_clips=MAX_PROMPT_WORDS + TARGET_WORDS,
        max_clips=MAX_PROMPT_WORDS + TARGET_WORDS,
    )
    whole = concatenate_clips(chains)
    n = len(chains)
    reference = cut_segments(whole.x, whole.duration, whole.word, [0] * n, [MAX_PROMPT_WORDS - 1] * n)
    real, results = clip_words(digits.test), []
    for num_words in range(MAX_PROMPT_WORDS + 1):
        rows = concatenate_clips([chain[MAX_PROMPT_WORDS - num_words :] for chain in chains])
        task = InfillingTask(rows, (torch.arange(num_words + TARGET_WORDS) >= num_words).expand(n, -1))
        x = infill_words(trained.network(MAIN), FRAME_MODELS["flow"].path, task, rng)
        similarity = trained.judges.speaker.similarity(reference, infilled_segments(task, x)).mean().item()
        results.append((similarity, evaluate_infilling(trained.judges, task, x, real).accuracy))
    return tuple(results)


@requires_speech("longer prompts make voices more alike, ever less", "similarity rises and flattens")
def prompts(setting: Setting) -> Iterator[Claim]:
    """Similarity by the length of the prompt."""
    results = evaluate_seeds(setting, evaluate_prompts)
    similarity, accuracy = ([[pair[i] for pair in row] for row in results] for i in range(2))

    summary = (
        f"prompts of 0 to {MAX_PROMPT_WORDS} words: similarity {format_column_means(similarity)}; words that are right"
        f" {format_column_means(accuracy)}"
    )
    rises = [min(row[1] - row[0], row[-1] - row[1]) for row in similarity]
    yield Claim(
        "a prompt makes the voice more alike, and a longer one more so",
        "similarity rises with the seconds of the prompt",
        summary,
        f"{spread_of(rises)}, the smaller gain of none to one word and of one to {MAX_PROMPT_WORDS}",
        verdict(min(rises) > 0),
    )
    flat = [(row[1] - row[0]) - (row[-1] - row[-2]) for row in similarity]
    yield Claim(
        "the gain of another word of the prompt becomes less",
        "similarity flattens",
        summary,
        f"{spread_of(flat)}, gain of the first word less that of word {MAX_PROMPT_WORDS}; the usual prompt has"
        f" {PROMPT_WORDS}",
        verdict(min(flat) > 0),
    )
