"""Main model: accuracy by the judges and by Whisper, number of network evaluations, and speed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from feller.evaluation.speech.asr import word_error_rate
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.voicebox.digits import DIGIT_NAMES, MEL
from feller_papers.voicebox.filling import (
    GUIDANCE_WEIGHT,
    NFE,
    Metrics,
    evaluate_infilling,
    infill_words,
    infilled_segments,
    sample_task,
)
from feller_papers.voicebox.judges import clip_words
from feller_papers.voicebox.models import FRAME_MODELS, MAIN, TrainedModels, evaluate_seeds
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.sounds import synthesize, transcribe
from feller_papers.voicebox.spoken import format_column_means, requires_speech

MIN_ACCURACY = 0.80
"""Required accuracy."""
MAX_SPREAD = 0.05
"""Largest range of accuracy from 4 network evaluations on."""
FROM_NFE = 4
MIN_USABLE_ACCURACY = 0.5
"""Accuracy below which the range is meaningless."""
MAX_WER = 0.25
"""Highest accepted word error rate of Whisper."""
MAX_SECONDS = 0.3
"""Highest accepted processor time per second of speech."""


@dataclass(frozen=True)
class Headline:
    """Metrics of one seed."""

    real: Metrics
    by_nfe: tuple[Metrics, ...]
    """For each number of network evaluations."""


def evaluate(trained: TrainedModels) -> Headline:
    """Return the metrics of the main model on test chains, by number of network evaluations."""
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("headline")
    task, real = sample_task(digits.test, setting.num_chains, rng), clip_words(digits.test)
    network, path = trained.network(MAIN), FRAME_MODELS["flow"].path
    return Headline(
        evaluate_infilling(trained.judges, task, task.rows.x, real),
        tuple(
            evaluate_infilling(trained.judges, task, infill_words(network, path, task, rng, nfe=nfe), real)
            for nfe in setting.nfes
        ),
    )


@requires_speech(
    "words that are filled in are understood, from few calls on", "word error rate 2.0 %, as real speech; flat"
)
def understood(setting: Setting) -> Iterator[Claim]:
    """Accuracy by the number of network evaluations."""
    results = evaluate_seeds(setting, evaluate)
    index = setting.nfes.index(NFE)
    accuracy = [result.by_nfe[index].accuracy for result in results]
    real = [result.real.accuracy for result in results]
    yield Claim(
        f"three digits behind a prompt of two are understood: {NFE} calls, guidance {GUIDANCE_WEIGHT:g}",
        "word error rate 1.9 %, of real speech 2.2 %",
        f"{mean_of(accuracy, 3)} of the words are right by a judge, of real ones {mean_of(real, 3)};"
        f" {setting.steps:,} steps",
        f"{spread_of(accuracy)}; asked to be {MIN_ACCURACY:g} each",
        verdict(min(accuracy) >= MIN_ACCURACY),
    )
    rows = [[row.accuracy for row in result.by_nfe] for result in results]
    accuracies_from_nfe = [
        [value for value, nfe in zip(row, setting.nfes, strict=True) if nfe >= FROM_NFE] for row in rows
    ]
    spreads = [max(row) - min(row) for row in accuracies_from_nfe]
    similarity = [[row.similarity for row in result.by_nfe] for result in results]
    yield Claim(
        f"quality hardly depends on the number of calls, from {FROM_NFE} on",
        "word error rate flat: mean 2.0 %, variance .005",
        f"words that are right by {', '.join(map(str, setting.nfes))} calls: {format_column_means(rows)}; similarity by"
        f" a small network: {format_column_means(similarity)}",
        f"{spread_of(spreads)}, from the least to the most; asked to be at most {MAX_SPREAD:g}, where"
        f" {MIN_USABLE_ACCURACY:g} or more are right",
        verdict(max(spreads) <= MAX_SPREAD and min(map(min, accuracies_from_nfe)) >= MIN_USABLE_ACCURACY),
    )


def evaluate_wer(trained: TrainedModels) -> tuple[float, float]:
    """Return Whisper's word error rates of vocoded real words and of infilled words."""
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("transcribed")
    task = sample_task(digits.test, setting.few_chains, rng)
    x = infill_words(trained.network(MAIN), FRAME_MODELS["flow"].path, task, rng)
    rates = []
    for mels in (task.rows.x, x):
        segments = infilled_segments(task, mels)
        sounds = [synthesize(mel[valid], digits) for mel, valid in zip(segments.x, segments.valid, strict=True)]
        pairs = zip(task.rows.digit, task.words, strict=True)
        references = [" ".join(DIGIT_NAMES[i] for i in digit[mask]) for digit, mask in pairs]
        rates.append(word_error_rate(references, transcribe(sounds), rng).rate)
    return rates[0], rates[1]


@requires_speech(
    "Whisper understands three digits that are filled in", "word error rate 1.9 %, by HuBERT; real speech 2.2 %"
)
def whisper(setting: Setting) -> Iterator[Claim]:
    """Word error rate of Whisper, which is not trained on synthetic digits."""
    results = evaluate_seeds(setting, evaluate_wer)
    real, infilled = ([pair[i] for pair in results] for i in range(2))
    yield Claim(
        f"Whisper understands strings of three digits that are filled in: {NFE} calls, guidance {GUIDANCE_WEIGHT:g}",
        "word error rate 1.9 %, of real speech 2.2 %, by HuBERT",
        f"word error rate {mean_of(infilled, 3)}, of real ones that went through the vocoder {mean_of(real, 3)};"
        f" tiny.en, Griffin-Lim, {setting.few_chains} strings",
        f"{spread_of(infilled)}; asked to be at most {MAX_WER:g} each",
        verdict(max(infilled) <= MAX_WER),
    )


def measure_seconds(trained: TrainedModels) -> float:
    """Return the processor time per second of speech, at batch size 1."""
    digits, rng = trained.digits, trained.rng.fold_in("timed")
    network, path = trained.network(MAIN), FRAME_MODELS["flow"].path
    tasks = [sample_task(digits.test, 1, rng.fold_in(i)) for i in range(6)]
    infill_words(network, path, tasks[0], rng)  # warm-up
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.process_time()
    seconds = 0.0
    for task in tasks:
        infill_words(network, path, task, rng)
        seconds += int(task.rows.duration[task.hidden].sum()) * MEL.hop_length / MEL.sample_rate
    elapsed = time.process_time() - start
    torch.set_num_threads(num_threads)
    return elapsed / seconds


@requires_speech(
    "infilling is faster than speech, on one processor core", "10 s of speech in 0.31 s at 2 calls, on a GPU"
)
def fast(setting: Setting) -> Iterator[Claim]:
    """Processor time per second of speech, without the vocoder."""
    results = evaluate_seeds(setting, measure_seconds)
    yield Claim(
        f"the small model at {NFE} calls with guidance is faster than speech, on one processor core",
        "10 s of speech in 0.31 s at 2 calls without guidance, on a GPU",
        f"{mean_of(results, 3)} processor seconds for one second that is filled in, without Griffin-Lim",
        f"{spread_of(results)}; asked to be below {MAX_SECONDS:g}",
        verdict(max(results) < MAX_SECONDS),
    )
