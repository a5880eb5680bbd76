"""What guidance does to words, voices and diversity; and what longer prompts do to voices."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from feller.data.speech.phones import frames_of
from feller_papers.claims import Claim, numbers_of, spread_of, verdict
from feller_papers.voicebox.chains import drawn_chains, joined
from feller_papers.voicebox.filling import ASKED, CALLS, PROMPT, WEIGHT, Asked, asked, filled, filled_part, heard
from feller_papers.voicebox.judges import alone
from feller_papers.voicebox.models import FRAMES, LONG, Trained, measured
from feller_papers.voicebox.pieces import parts_in
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import columns, spoken

LONGEST = 3
"""Words of a prompt, at most."""


@dataclass(frozen=True)
class Guided:
    """What judges hear at one weight, and how far draws of the same text are apart."""

    accuracy: float
    alike: float
    distance: float
    diversity: float
    """Root mean square, over what is filled in, of the deviation over draws; log mels of the data have deviation 1."""


def measure(trained: Trained) -> tuple[Guided, ...]:
    """Fill in the same words several times, for each weight."""
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("guidance")
    some, real = asked(it.test, setting.few, draws), alone(it.test)
    rows = some.rows
    hidden = frames_of(some.hidden, rows.duration, rows.x.shape[1])
    found = []
    for weight in setting.weights:
        drawn = torch.stack(
            [
                filled(trained.network(LONG), FRAMES["flow"].path, some, draws.fold_in(i), weight=weight)
                for i in range(setting.draws)
            ]
        )
        each = [heard(trained.judges, some, x, real) for x in drawn]
        found.append(
            Guided(
                statistics.fmean(one.accuracy for one in each),
                statistics.fmean(one.alike for one in each),
                statistics.fmean(one.distance for one in each),
                drawn.var(0)[hidden].mean().sqrt().item(),
            )
        )
    return tuple(found)


@spoken("guidance: words and voices gain, diversity falls", "0.7 above the plain conditional for words and voices")
def weights(setting: Setting) -> Iterator[Claim]:
    """Words, voices and diversity by the weight."""
    found = measured(setting, measure)
    names = numbers_of(setting.weights)

    def table(name: str) -> str:
        return columns([getattr(one, name) for one in row] for row in found)

    place = setting.weights.index(WEIGHT)
    gains = [row[place].accuracy - row[0].accuracy for row in found]
    yield Claim(
        f"guidance makes words easier to understand: weight {WEIGHT:g} against none",
        "weight 1.7 for words and voices, 1 for diversity; from 8 calls on larger ones are better",
        f"words that are right at weights {names}: {table('accuracy')}; {CALLS} calls, {setting.draws} draws each",
        f"{spread_of(gains)}, more of the words",
        verdict(min(gains) > 0),
    )
    gains = [row[place].alike - row[0].alike for row in found]
    yield Claim(
        f"guidance makes voices more alike: weight {WEIGHT:g} against none",
        "from 8 calls on larger weights are better",
        f"similarity by a small network at weights {names}: {table('alike')}",
        f"{spread_of(gains)}, more",
        verdict(min(gains) > 0),
    )
    steps = [max(b.diversity - a.diversity for a, b in pairwise(row)) for row in found]
    yield Claim(
        "the larger the weight, the less diverse are draws of the same text",
        "FSD: smaller weights are better",
        f"deviation of log mels over draws at weights {names}: {table('diversity')}; FD-cnn {table('distance')}",
        f"{spread_of(steps)}, largest change from a weight to the next",
        verdict(max(steps) < 0),
    )


def prompts_measured(trained: Trained) -> tuple[tuple[float, float], ...]:
    """Return the similarity to three words of the speaker, and the words that are right, for prompts of 0 to 3 words.

    What is asked for is the same each time, and so are the three words, of which the last ones are told.
    """
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("prompts")
    chains = drawn_chains(it.test, setting.chains, draws, fewest=LONGEST + ASKED, most=LONGEST + ASKED)
    whole = joined(chains)
    n = len(chains)
    reference = parts_in(whole.x, whole.duration, whole.word, [0] * n, [LONGEST - 1] * n)
    real, found = alone(it.test), []
    for told in range(LONGEST + 1):
        rows = joined([chain[LONGEST - told :] for chain in chains])
        some = Asked(rows, (torch.arange(told + ASKED) >= told).expand(n, -1))
        x = filled(trained.network(LONG), FRAMES["flow"].path, some, draws)
        alike = trained.judges.speaker.alike(reference, filled_part(some, x)).mean().item()
        found.append((alike, heard(trained.judges, some, x, real).accuracy))
    return tuple(found)


@spoken("longer prompts make voices more alike, ever less", "similarity rises and flattens")
def prompts(setting: Setting) -> Iterator[Claim]:
    """Voices by the length of the prompt."""
    found = measured(setting, prompts_measured)
    alike, right = ([[pair[i] for pair in row] for row in found] for i in range(2))

    figures = f"prompts of 0 to {LONGEST} words: similarity {columns(alike)}; words that are right {columns(right)}"
    rises = [min(row[1] - row[0], row[-1] - row[1]) for row in alike]
    yield Claim(
        "a prompt makes the voice more alike, and a longer one more so",
        "similarity rises with the seconds of the prompt",
        figures,
        f"{spread_of(rises)}, the smaller gain of none to one word and of one to {LONGEST}",
        verdict(min(rises) > 0),
    )
    flat = [(row[1] - row[0]) - (row[-1] - row[-2]) for row in alike]
    yield Claim(
        "the gain of another word of the prompt becomes less",
        "similarity flattens",
        figures,
        f"{spread_of(flat)}, gain of the first word less that of word {LONGEST}; the usual prompt has {PROMPT}",
        verdict(min(flat) > 0),
    )
