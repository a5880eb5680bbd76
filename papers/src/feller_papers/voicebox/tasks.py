"""Denoising by infilling, and editing of words."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from feller.core.rng import Rng
from feller.data.speech.phones import frames_of
from feller_papers.claims import Claim, mean_of, numbers_of, spread_of, verdict
from feller_papers.voicebox.chains import concatenate_clips, sample_chains
from feller_papers.voicebox.digits import MEL, Clip, Digits
from feller_papers.voicebox.filling import InfillingTask, infill_words
from feller_papers.voicebox.models import FRAME_MODELS, MAIN, TrainedModels, evaluate_seeds
from feller_papers.voicebox.pieces import cut_words
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import format_column_means, requires_speech

SNRS = (-10.0, 0.0, 10.0)
"""Signal-to-noise ratios, in dB."""
NOISES = ("white", "babble")
BABBLE_CHAINS = 6
"""Chains mixed to babble."""
WORDS_PER_CHAIN = 5
NOISY_WORDS = slice(2, 4)
"""Words with noise."""
MIN_ERROR_RATIO = 2.0
"""Required ratio of the error rates of noisy and infilled words, at the loudest noise."""
MIN_ACCURACY = 0.5
"""Accuracy below which the range is meaningless."""
MAX_SPREAD = 0.05
"""Largest range of accuracy over noises."""
EDITED_WORD = 1
"""Index of the edited word."""


@dataclass(frozen=True)
class DenoisingMetrics:
    """Accuracy by noise and signal-to-noise ratio."""

    noisy: tuple[tuple[float, ...], ...]
    filled: tuple[tuple[float, ...], ...]


def add_noise(
    sound: Float32[np.ndarray, " n"], noise: Float32[np.ndarray, " n"], span: slice, snr: float
) -> Float32[np.ndarray, " n"]:
    """Return a waveform with noise added to a span, at a signal-to-noise ratio in dB."""
    scale = np.sqrt(np.square(sound[span]).mean() / np.square(noise[span]).mean() / 10 ** (snr / 10))
    noisy = sound.copy()
    noisy[span] += np.float32(scale) * noise[span]
    return noisy


def _sample_noise(noise_type: str, n: int, clips: tuple[Clip, ...], rng: Rng) -> Float32[np.ndarray, " n"]:
    if noise_type == "white":
        return rng.stream("white").normal((1, n))[0].numpy()
    chains = sample_chains(
        clips, BABBLE_CHAINS, rng.fold_in("babble"), min_clips=WORDS_PER_CHAIN, max_clips=WORDS_PER_CHAIN
    )
    sounds = [np.concatenate([clip.sound for clip in chain]) for chain in chains]
    return np.stack([np.resize(sound, n) for sound in sounds]).sum(0)


def _log_mel(sound: Float32[np.ndarray, " samples"], digits: Digits) -> Float[Tensor, "n bands"]:
    return (MEL.log_mel(torch.from_numpy(sound)) - digits.scale.mean) / digits.scale.std


def evaluate_denoising(trained: TrainedModels) -> DenoisingMetrics:
    """Return the accuracy of noisy and of infilled words; context frames are those of the noisy waveform."""
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("noise")
    chains = sample_chains(digits.test, setting.num_chains, rng, min_clips=WORDS_PER_CHAIN, max_clips=WORDS_PER_CHAIN)
    rows = concatenate_clips(chains)
    word_mask = torch.zeros(len(chains), WORDS_PER_CHAIN, dtype=torch.bool)
    word_mask[:, NOISY_WORDS] = True
    hidden = frames_of(InfillingTask(rows, word_mask).hidden, rows.duration, rows.x.shape[1])
    noisy, denoised = [], []
    for noise_type in NOISES:
        accuracies = []
        for snr in SNRS:
            x = rows.x.clone()
            for i, chain in enumerate(chains):
                sound = np.concatenate([clip.sound for clip in chain])
                frames = hidden[i].nonzero()[:, 0]
                span = slice(int(frames[0]) * MEL.hop_length, (int(frames[-1]) + 1) * MEL.hop_length)
                noise = _sample_noise(noise_type, len(sound), digits.train, rng.fold_in(noise_type, i))
                mel = _log_mel(add_noise(sound, noise, span, snr), digits)
                x[i, : len(mel)] = mel
            task = InfillingTask(replace(rows, x=x), word_mask)
            infilled = infill_words(trained.network(MAIN), FRAME_MODELS["flow"].path, task, rng)
            accuracies.append(
                [
                    trained.judges.digit.accuracy(
                        cut_words(mels, rows.duration, rows.word, word_mask), task.target_digits
                    )
                    for mels in (x, infilled)
                ]
            )
        noisy.append(tuple(pair[0] for pair in accuracies))
        denoised.append(tuple(pair[1] for pair in accuracies))
    return DenoisingMetrics(tuple(noisy), tuple(denoised))


@requires_speech(
    "noise is removed by filling in", "at -10 dB, half of the words: noisy 41.2, filled 2.0 % of the words wrong"
)
def noise(setting: Setting) -> Iterator[Claim]:
    """Accuracy of noisy words, and of infilled words."""
    results = evaluate_seeds(setting, evaluate_denoising)

    def format_table(field: str) -> str:
        rows = [format_column_means(getattr(result, field)[k] for result in results) for k in range(len(NOISES))]
        return "; ".join(f"{noise_type} {row}" for noise_type, row in zip(NOISES, rows, strict=True))

    snrs = numbers_of(SNRS)
    error_ratios = [
        min(
            (1 - noisy[0]) / max(1 - denoised[0], 1e-3)
            for noisy, denoised in zip(result.noisy, result.filled, strict=True)
        )
        for result in results
    ]
    yield Claim(
        f"words below noise of {SNRS[0]:g} dB are understood much better where they are filled in",
        "word error rate at -10 dB, 50 % of the words: noisy 41.2, filled in 2.0 %",
        f"words that are right at {snrs} dB: noisy {format_table('noisy')}; filled in {format_table('filled')}",
        f"{spread_of(error_ratios)} times the errors, the lesser of two noises; asked to be {MIN_ERROR_RATIO:g}",
        verdict(min(error_ratios) >= MIN_ERROR_RATIO),
    )
    spreads = [max(max(row) for row in result.filled) - min(min(row) for row in result.filled) for result in results]
    yield Claim(
        "what is filled in does not depend on the noise that was there",
        "word error rate 2.0 to 2.2 % throughout: the noise is discarded",
        f"words that are right at {snrs} dB: {format_table('filled')}",
        f"{spread_of(spreads)}, from the least to the most; asked to be at most {MAX_SPREAD:g}, where"
        f" {MIN_ACCURACY:g} or more are right",
        verdict(max(spreads) <= MAX_SPREAD and all(min(map(min, result.filled)) >= MIN_ACCURACY for result in results)),
    )


def replace_word(clip: Clip, digit: int, phone: Tensor) -> Clip:
    """Return a clip with the word replaced, one zero frame per phone, and the silences kept."""
    before, after = int(clip.duration[0]), int(clip.duration[-1])
    num_phones = len(phone) - 2
    mel = torch.cat(
        [clip.mel[:before], clip.mel.new_zeros(num_phones, clip.mel.shape[1]), clip.mel[len(clip.mel) - after :]]
    )
    duration = torch.tensor([before, *[1] * num_phones, after])
    return replace(clip, digit=digit, mel=mel, phone=phone, duration=duration)


def evaluate_editing(trained: TrainedModels) -> tuple[float, float]:
    """Return the share of context frames that are bitwise equal, and the accuracy of the new words."""
    digits, setting, rng = trained.digits, trained.setting, trained.rng.fold_in("editing")
    chains = sample_chains(digits.test, setting.num_chains, rng, min_clips=3, max_clips=WORDS_PER_CHAIN - 1)
    offsets = rng.stream("other").randint(9, (len(chains),)).tolist()
    pronunciations = digits.pronunciations()
    edited = []
    for chain, offset in zip(chains, offsets, strict=True):
        clip = chain[EDITED_WORD]
        digit = (clip.digit + 1 + offset) % 10
        edited.append(
            (*chain[:EDITED_WORD], replace_word(clip, digit, pronunciations[digit]), *chain[EDITED_WORD + 1 :])
        )
    old, rows = concatenate_clips(chains), concatenate_clips(edited)
    word_mask = torch.zeros_like(rows.digit, dtype=torch.bool)
    word_mask[:, EDITED_WORD] = True
    original, task = InfillingTask(old, word_mask), InfillingTask(rows, word_mask)
    task = task.with_durations(trained.sample_durations("at once", rows, task.context, rng))
    x = infill_words(trained.network(MAIN), FRAME_MODELS["flow"].path, task, rng)
    old_context = old.x[frames_of(original.context, old.duration, old.x.shape[1])]
    new_context = x[frames_of(task.context, task.rows.duration, x.shape[1])]
    unchanged = (
        torch.eq(new_context, old_context).all(1).double().mean().item()
        if new_context.shape == old_context.shape
        else 0.0
    )
    return unchanged, trained.judges.digit.accuracy(
        cut_words(x, task.rows.duration, task.rows.word, word_mask), task.target_digits
    )


@requires_speech("words are changed, and all the rest is kept", "shown by examples")
def editing(setting: Setting) -> Iterator[Claim]:
    """Context frames and accuracy when one word of an utterance is replaced."""
    results = evaluate_seeds(setting, evaluate_editing)
    unchanged, accuracy = ([pair[i] for pair in results] for i in range(2))
    yield Claim(
        "where a word is changed, every kept frame comes out bit for bit",
        "kept frames are copied",
        f"{mean_of(unchanged)} of the kept frames are the same, in {setting.num_chains} utterances of 3 or 4 words",
        spread_of(unchanged),
        verdict(min(unchanged) == 1),
    )
    yield Claim(
        "the new word is understood; durations by regression",
        "shown by examples; word error rates of infilling are about 2 %",
        f"{mean_of(accuracy, 3)} of the new words are right",
        f"{spread_of(accuracy)}; asked to be 0.8",
        verdict(min(accuracy) >= 0.8),
    )
