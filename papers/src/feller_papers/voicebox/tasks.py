"""Noise that is cut out and filled in, and words that are changed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from feller.core.rng import Rng
from feller.data.speech.phones import frames_of
from feller_papers.claims import Claim, mean_of, numbers_of, spread_of, verdict
from feller_papers.voicebox.chains import drawn_chains, joined
from feller_papers.voicebox.digits import MEL, Clip, Digits
from feller_papers.voicebox.filling import Asked, filled
from feller_papers.voicebox.models import FRAMES, LONG, Trained, measured
from feller_papers.voicebox.pieces import words_in
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import columns, spoken

RATIOS = (-10.0, 0.0, 10.0)
"""Of signal and noise, in dB."""
NOISES = ("white", "babble")
TALKING = 6
"""Chains that babble is made of."""
WORDS = 5
"""Of a chain."""
NOISY = slice(2, 4)
"""Words below noise."""
CLEARLY = 2.0
"""Errors of noisy words by those of filled ones, asked for at the loudest noise."""
HALF = 0.5
"""Share of words below which nothing can be told."""
SAME = 0.05
"""Share of words by which noises may differ in what is filled in."""
EDITED = 1
"""The word that is changed."""


@dataclass(frozen=True)
class Denoised:
    """Shares of words that are right, for each noise and ratio."""

    noisy: tuple[tuple[float, ...], ...]
    filled: tuple[tuple[float, ...], ...]


def mixed(
    sound: Float32[np.ndarray, " n"], noise: Float32[np.ndarray, " n"], where: slice, ratio: float
) -> Float32[np.ndarray, " n"]:
    """Add noise to a part of a sound, at a ratio of their powers there, in dB."""
    level = np.sqrt(np.square(sound[where]).mean() / np.square(noise[where]).mean() / 10 ** (ratio / 10))
    louder = sound.copy()
    louder[where] += np.float32(level) * noise[where]
    return louder


def _noise(kind: str, n: int, clips: tuple[Clip, ...], draws: Rng) -> Float32[np.ndarray, " n"]:
    if kind == "white":
        return draws.stream("white").normal((1, n))[0].numpy()
    chains = drawn_chains(clips, TALKING, draws.fold_in("babble"), fewest=WORDS, most=WORDS)
    sounds = [np.concatenate([clip.sound for clip in chain]) for chain in chains]
    return np.stack([np.resize(sound, n) for sound in sounds]).sum(0)


def _heard(sound: Float32[np.ndarray, " samples"], it: Digits) -> Float[Tensor, "n bands"]:
    return (MEL.log_mel(torch.from_numpy(sound)) - it.scale.mean) / it.scale.std


def denoised(trained: Trained) -> Denoised:
    """Drown words in noise, and fill them in anew; what is kept is that of the noisy sound."""
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("noise")
    chains = drawn_chains(it.test, setting.chains, draws, fewest=WORDS, most=WORDS)
    rows = joined(chains)
    marks = torch.zeros(len(chains), WORDS, dtype=torch.bool)
    marks[:, NOISY] = True
    hidden = frames_of(Asked(rows, marks).hidden, rows.duration, rows.x.shape[1])
    noisy, clean = [], []
    for kind in NOISES:
        pairs = []
        for ratio in RATIOS:
            x = rows.x.clone()
            for i, chain in enumerate(chains):
                sound = np.concatenate([clip.sound for clip in chain])
                place = hidden[i].nonzero()[:, 0]
                where = slice(int(place[0]) * MEL.hop_length, (int(place[-1]) + 1) * MEL.hop_length)
                noise = _noise(kind, len(sound), it.train, draws.fold_in(kind, i))
                mel = _heard(mixed(sound, noise, where, ratio), it)
                x[i, : len(mel)] = mel
            some = Asked(replace(rows, x=x), marks)
            made = filled(trained.network(LONG), FRAMES["flow"].path, some, draws)
            pairs.append(
                [
                    trained.judges.digit.right(words_in(one, rows.duration, rows.word, marks), some.said)
                    for one in (x, made)
                ]
            )
        noisy.append(tuple(pair[0] for pair in pairs))
        clean.append(tuple(pair[1] for pair in pairs))
    return Denoised(tuple(noisy), tuple(clean))


@spoken("noise is removed by filling in", "at -10 dB, half of the words: noisy 41.2, filled 2.0 % of the words wrong")
def noise(setting: Setting) -> Iterator[Claim]:
    """Words below noise, heard as they are and filled in."""
    found = measured(setting, denoised)

    def table(name: str) -> str:
        each = [columns(getattr(one, name)[k] for one in found) for k in range(len(NOISES))]
        return "; ".join(f"{kind} {row}" for kind, row in zip(NOISES, each, strict=True))

    words = numbers_of(RATIOS)
    times = [
        min((1 - noisy[0]) / max(1 - made[0], 1e-3) for noisy, made in zip(one.noisy, one.filled, strict=True))
        for one in found
    ]
    yield Claim(
        f"words below noise of {RATIOS[0]:g} dB are understood much better where they are filled in",
        "word error rate at -10 dB, 50 % of the words: noisy 41.2, filled in 2.0 %",
        f"words that are right at {words} dB: noisy {table('noisy')}; filled in {table('filled')}",
        f"{spread_of(times)} times the errors, the lesser of two noises; asked to be {CLEARLY:g}",
        verdict(min(times) >= CLEARLY),
    )
    off = [max(max(row) for row in one.filled) - min(min(row) for row in one.filled) for one in found]
    yield Claim(
        "what is filled in does not depend on the noise that was there",
        "word error rate 2.0 to 2.2 % throughout: the noise is discarded",
        f"words that are right at {words} dB: {table('filled')}",
        f"{spread_of(off)}, from the least to the most; asked to be at most {SAME:g}, where {HALF:g} or more are right",
        verdict(max(off) <= SAME and all(min(map(min, one.filled)) >= HALF for one in found)),
    )


def other_word(clip: Clip, digit: int, phone: Tensor) -> Clip:
    """Return a clip whose word is another one, one frame for each phone, between the silences of the first."""
    before, after = int(clip.duration[0]), int(clip.duration[-1])
    between = len(phone) - 2
    mel = torch.cat(
        [clip.mel[:before], clip.mel.new_zeros(between, clip.mel.shape[1]), clip.mel[len(clip.mel) - after :]]
    )
    duration = torch.tensor([before, *[1] * between, after])
    return replace(clip, digit=digit, mel=mel, phone=phone, duration=duration)


def edited(trained: Trained) -> tuple[float, float]:
    """Return the share of kept frames that came out bit for bit, and of new words that are right."""
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("editing")
    chains = drawn_chains(it.test, setting.chains, draws, fewest=3, most=WORDS - 1)
    more = draws.stream("other").randint(9, (len(chains),)).tolist()
    said = it.words()
    new = []
    for chain, step in zip(chains, more, strict=True):
        clip = chain[EDITED]
        digit = (clip.digit + 1 + step) % 10
        new.append((*chain[:EDITED], other_word(clip, digit, said[digit]), *chain[EDITED + 1 :]))
    old, rows = joined(chains), joined(new)
    marks = torch.zeros_like(rows.digit, dtype=torch.bool)
    marks[:, EDITED] = True
    before, some = Asked(old, marks), Asked(rows, marks)
    some = some.lasting(trained.lasting("at once", rows, some.kept, draws))
    x = filled(trained.network(LONG), FRAMES["flow"].path, some, draws)
    kept_before = old.x[frames_of(before.kept, old.duration, old.x.shape[1])]
    kept = x[frames_of(some.kept, some.rows.duration, x.shape[1])]
    same = torch.eq(kept, kept_before).all(1).double().mean().item() if kept.shape == kept_before.shape else 0.0
    return same, trained.judges.digit.right(words_in(x, some.rows.duration, some.rows.word, marks), some.said)


@spoken("words are changed, and all the rest is kept", "shown by examples")
def editing(setting: Setting) -> Iterator[Claim]:
    """Change one word of an utterance."""
    found = measured(setting, edited)
    same, right = ([pair[i] for pair in found] for i in range(2))
    yield Claim(
        "where a word is changed, every kept frame comes out bit for bit",
        "kept frames are copied",
        f"{mean_of(same)} of the kept frames are the same, in {setting.chains} utterances of 3 or 4 words",
        spread_of(same),
        verdict(min(same) == 1),
    )
    yield Claim(
        "the new word is understood; durations by regression",
        "shown by examples; word error rates of infilling are about 2 %",
        f"{mean_of(right, 3)} of the new words are right",
        f"{spread_of(right)}; asked to be 0.8",
        verdict(min(right) >= 0.8),
    )
