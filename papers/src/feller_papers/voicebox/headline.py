"""What the usual model can do: digits that are understood, by judges and by Whisper, few calls, and how fast it is."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from feller.evaluation.speech.asr import word_error_rate
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.voicebox.digits import MEL, NAMES
from feller_papers.voicebox.filling import CALLS, WEIGHT, Heard, asked, filled, filled_part, heard
from feller_papers.voicebox.judges import alone
from feller_papers.voicebox.models import FRAMES, LONG, Trained, measured
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.sounds import sound_of, written
from feller_papers.voicebox.spoken import columns, spoken

RIGHT = 0.80
"""Share of words that are understood, asked for."""
FLAT = 0.05
"""By which the share of words that are understood may differ from 4 calls on."""
FROM = 4
HALF = 0.5
"""Share of words below which nothing can be told."""
WRONG = 0.25
"""Word error rate of Whisper, asked for."""
FAST = 0.3
"""Seconds for one of speech, asked for."""


@dataclass(frozen=True)
class Headline:
    """Figures of one seed."""

    real: Heard
    by_calls: tuple[Heard, ...]
    """For each number of calls."""


def measure(trained: Trained) -> Headline:
    """Let the usual model fill in words of held-out chains."""
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("headline")
    some, real = asked(it.test, setting.chains, draws), alone(it.test)
    network, path = trained.network(LONG), FRAMES["flow"].path
    return Headline(
        heard(trained.judges, some, some.rows.x, real),
        tuple(
            heard(trained.judges, some, filled(network, path, some, draws, calls=calls), real)
            for calls in setting.calls
        ),
    )


@spoken("words that are filled in are understood, from few calls on", "word error rate 2.0 %, as real speech; flat")
def understood(setting: Setting) -> Iterator[Claim]:
    """Words that are filled in, by the number of calls."""
    found = measured(setting, measure)
    place = setting.calls.index(CALLS)
    right = [one.by_calls[place].accuracy for one in found]
    real = [one.real.accuracy for one in found]
    yield Claim(
        f"three digits behind a prompt of two are understood: {CALLS} calls, guidance {WEIGHT:g}",
        "word error rate 1.9 %, of real speech 2.2 %",
        f"{mean_of(right, 3)} of the words are right by a judge, of real ones {mean_of(real, 3)};"
        f" {setting.steps:,} steps",
        f"{spread_of(right)}; asked to be {RIGHT:g} each",
        verdict(min(right) >= RIGHT),
    )
    rows = [[row.accuracy for row in one.by_calls] for one in found]
    late = [[value for value, calls in zip(row, setting.calls, strict=True) if calls >= FROM] for row in rows]
    off = [max(some) - min(some) for some in late]
    alike = [[row.alike for row in one.by_calls] for one in found]
    yield Claim(
        f"quality hardly depends on the number of calls, from {FROM} on",
        "word error rate flat: mean 2.0 %, variance .005",
        f"words that are right by {', '.join(map(str, setting.calls))} calls: {columns(rows)}; similarity by a small"
        f" network: {columns(alike)}",
        f"{spread_of(off)}, from the least to the most; asked to be at most {FLAT:g}, where {HALF:g} or more are right",
        verdict(max(off) <= FLAT and min(map(min, late)) >= HALF),
    )


def transcribed(trained: Trained) -> tuple[float, float]:
    """Return Whisper's word error rates of real words that went through the vocoder, and of words that were made."""
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("transcribed")
    some = asked(it.test, setting.few, draws)
    x = filled(trained.network(LONG), FRAMES["flow"].path, some, draws)
    rates = []
    for mels in (some.rows.x, x):
        parts = filled_part(some, mels)
        sounds = [sound_of(mel[valid], it) for mel, valid in zip(parts.x, parts.valid, strict=True)]
        both = zip(some.rows.digit, some.words, strict=True)
        right = [" ".join(NAMES[i] for i in row[marks]) for row, marks in both]
        rates.append(word_error_rate(right, written(sounds), draws).rate)
    return rates[0], rates[1]


@spoken("Whisper understands three digits that are filled in", "word error rate 1.9 %, by HuBERT; real speech 2.2 %")
def whisper(setting: Setting) -> Iterator[Claim]:
    """Ask a recogniser that has never heard a synthetic digit."""
    found = measured(setting, transcribed)
    real, made = ([pair[i] for pair in found] for i in range(2))
    yield Claim(
        f"Whisper understands strings of three digits that are filled in: {CALLS} calls, guidance {WEIGHT:g}",
        "word error rate 1.9 %, of real speech 2.2 %, by HuBERT",
        f"word error rate {mean_of(made, 3)}, of real ones that went through the vocoder {mean_of(real, 3)};"
        f" tiny.en, Griffin-Lim, {setting.few} strings",
        f"{spread_of(made)}; asked to be at most {WRONG:g} each",
        verdict(max(made) <= WRONG),
    )


def timed(trained: Trained) -> float:
    """Return the processor seconds for one of speech, of chains that are drawn one at a time."""
    it, draws = trained.digits, trained.draws.fold_in("timed")
    network, path = trained.network(LONG), FRAMES["flow"].path
    some = [asked(it.test, 1, draws.fold_in(i)) for i in range(6)]
    filled(network, path, some[0], draws)  # what is made once
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    begun = time.process_time()
    seconds = 0.0
    for one in some:
        filled(network, path, one, draws)
        seconds += int(one.rows.duration[one.hidden].sum()) * MEL.hop_length / MEL.sample_rate
    spent = time.process_time() - begun
    torch.set_num_threads(threads)
    return spent / seconds


@spoken("infilling is faster than speech, on one processor core", "10 s of speech in 0.31 s at 2 calls, on a GPU")
def fast(setting: Setting) -> Iterator[Claim]:
    """How long one second of speech takes, without the vocoder."""
    found = measured(setting, timed)
    yield Claim(
        f"the small model at {CALLS} calls with guidance is faster than speech, on one processor core",
        "10 s of speech in 0.31 s at 2 calls without guidance, on a GPU",
        f"{mean_of(found, 3)} processor seconds for one second that is filled in, without Griffin-Lim",
        f"{spread_of(found)}; asked to be below {FAST:g}",
        verdict(max(found) < FAST),
    )
