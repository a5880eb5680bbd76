"""Recognisers trained on generated digits and tested on real digits."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.voicebox.chains import concatenate_clips
from feller_papers.voicebox.digits import DIGIT_NAMES, MEL, Clip
from feller_papers.voicebox.filling import InfillingTask, infill_words
from feller_papers.voicebox.judges import clip_words, resampling_batch_fn, train_judge
from feller_papers.voicebox.models import FRAME_MODELS, MAIN, TrainedModels, evaluate_seeds
from feller_papers.voicebox.pieces import Segments, cut_words
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import requires_speech

WORDS_PER_CHAIN = 4
"""Words per generated chain."""
BATCH_SIZE = 50
"""Chains per generation batch."""
CHANCE = 0.1
MIN_ACCURACY = 0.5
"""Required accuracy on real digits."""


@dataclass(frozen=True)
class RecogniserAccuracy:
    """Accuracy on real test digits, by training set."""

    real: float
    drawn: float
    at_once: float


def generate_words(trained: TrainedModels, model: str, rng: Rng) -> tuple[Segments, Int64[Tensor, " n"]]:
    """Return generated words and their digits, with durations of one model, without prompt and guidance."""
    digits, setting = trained.digits, trained.setting
    pronunciations, network = digits.pronunciations(), trained.network(MAIN)
    digit = rng.stream("digits").randint(len(DIGIT_NAMES), (setting.generated_chains, WORDS_PER_CHAIN))
    segments, labels = [], []
    for i, batch in enumerate(digit.split(BATCH_SIZE)):
        rows = concatenate_clips(
            [[_placeholder_clip(digits.train[0], d, pronunciations[d]) for d in row] for row in batch.tolist()]
        )
        task = InfillingTask(rows, torch.ones_like(batch, dtype=torch.bool))
        batch_rng = rng.fold_in(i)
        task = task.with_durations(trained.sample_durations(model, rows, torch.zeros_like(task.hidden), batch_rng))
        x = infill_words(network, FRAME_MODELS["flow"].path, task, batch_rng, guidance=1.0)
        batch_segments = cut_words(x, task.rows.duration, task.rows.word, task.words)
        segments += [segment[valid] for segment, valid in zip(batch_segments.x, batch_segments.valid, strict=True)]
        labels.append(task.target_digits)
    return Segments.from_list(segments), torch.cat(labels)


def _placeholder_clip(template: Clip, digit: int, phone: Int64[Tensor, " m"]) -> Clip:
    """Return a clip of zeros with the phones of a word."""
    return replace(
        template,
        digit=digit,
        mel=template.mel.new_zeros(len(phone), MEL.n_mels),
        phone=phone,
        duration=torch.ones_like(phone),
    )


def evaluate(trained: TrainedModels) -> RecogniserAccuracy:
    """Return the accuracy of three recognisers, trained on sets of equal size."""
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("recognising")
    real_words = clip_words(digits.train)
    n = min(setting.generated_chains * WORDS_PER_CHAIN, len(digits.train))
    order = torch.randperm(len(digits.train), generator=rng.stream("real").shared_generator())[:n]
    sets = {
        "real": (
            Segments(real_words.x[order], real_words.valid[order]),
            torch.tensor([clip.digit for clip in digits.train])[order],
        ),
        **{model: generate_words(trained, model, rng.fold_in(model)) for model in ("drawn", "at once")},
    }
    test, labels = clip_words(digits.test), torch.tensor([clip.digit for clip in digits.test])
    train_recogniser = functools.partial(
        train_judge, len(DIGIT_NAMES), steps=setting.recogniser_steps, rng=rng, bands=MEL.n_mels
    )
    accuracy = {
        model: train_recogniser(resampling_batch_fn(*dataset, rng.fold_in(model))).accuracy(test, labels)
        for model, dataset in sets.items()
    }
    return RecogniserAccuracy(accuracy["real"], accuracy["drawn"], accuracy["at once"])


@requires_speech("a recogniser learns from generated speech", "word error rate: real 2.6, generated 3.1 and 7.1 %")
def synthetic(setting: Setting) -> Iterator[Claim]:
    """Accuracy of recognisers trained on generated or real digits."""
    results = evaluate_seeds(setting, evaluate)
    real, drawn, at_once = ([getattr(result, source) for result in results] for source in ("real", "drawn", "at_once"))
    summary = (
        f"real test digits that are told rightly: taught by real ones {mean_of(real, 3)}, by generated ones with"
        f" durations that are drawn {mean_of(drawn, 3)}, by regression {mean_of(at_once, 3)};"
        f" {setting.generated_chains * WORDS_PER_CHAIN:,} each"
    )
    yield Claim(
        "a recogniser that has only heard generated digits understands real ones",
        "word error rate 3.1 %, taught by real speech 2.6 %",
        summary,
        f"{spread_of(drawn)} with durations that are drawn; asked to be {MIN_ACCURACY:g}, chance is {CHANCE:g}",
        verdict(min(drawn) >= MIN_ACCURACY),
    )
    gaps = [a - b for a, b in zip(real, drawn, strict=True)]
    yield Claim(
        "real digits teach more than generated ones",
        "word error rate 2.6 against 3.1 %",
        summary,
        f"{spread_of(gaps)}, more of the digits",
        verdict(min(gaps) > 0),
    )
    gaps = [a - b for a, b in zip(drawn, at_once, strict=True)]
    yield Claim(
        "digits whose durations are drawn teach at least as much as those by regression",
        "word error rate 3.1 against 7.1 %",
        summary,
        f"{spread_of(gaps)}, more of the digits",
        verdict(min(gaps) >= 0),
    )
