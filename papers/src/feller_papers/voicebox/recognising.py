"""Digits that were generated, without a prompt, teach a recogniser that is tried on real ones."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.voicebox.chains import joined
from feller_papers.voicebox.digits import MEL, NAMES, Clip
from feller_papers.voicebox.filling import Asked, filled
from feller_papers.voicebox.judges import alone, picked, train_judge
from feller_papers.voicebox.models import FRAMES, LONG, Trained, measured
from feller_papers.voicebox.pieces import Pieces, words_in
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import spoken

WORDS = 4
"""Of each chain that is generated."""
TOGETHER = 50
"""Chains that are generated at once."""
CHANCE = 0.1
LEARNED = 0.5
"""Share of real digits that are told rightly, asked for."""


@dataclass(frozen=True)
class Taught:
    """Shares of real test digits that recognisers tell rightly, by what they learned from."""

    real: float
    drawn: float
    at_once: float


def generated(trained: Trained, kind: str, draws: Rng) -> tuple[Pieces, Int64[Tensor, " n"]]:
    """Generate words of chains whose durations come from one of the models, all of them new, without guidance."""
    it, setting = trained.digits, trained.setting
    said, network = it.words(), trained.network(LONG)
    digit = draws.stream("digits").randint(len(NAMES), (setting.made, WORDS))
    found, answers = [], []
    for i, part in enumerate(digit.split(TOGETHER)):
        rows = joined([[_unsaid(it.train[0], d, said[d]) for d in row] for row in part.tolist()])
        some = Asked(rows, torch.ones_like(part, dtype=torch.bool))
        now = draws.fold_in(i)
        some = some.lasting(trained.lasting(kind, rows, torch.zeros_like(some.hidden), now))
        x = filled(network, FRAMES["flow"].path, some, now, weight=1.0)
        pieces = words_in(x, some.rows.duration, some.rows.word, some.words)
        found += [piece[valid] for piece, valid in zip(pieces.x, pieces.valid, strict=True)]
        answers.append(some.said)
    return Pieces.of(found), torch.cat(answers)


def _unsaid(like: Clip, digit: int, phone: Int64[Tensor, " m"]) -> Clip:
    """Return a clip of a word that nobody has said yet."""
    return replace(
        like, digit=digit, mel=like.mel.new_zeros(len(phone), MEL.n_mels), phone=phone, duration=torch.ones_like(phone)
    )


def measure(trained: Trained) -> Taught:
    """Teach three recognisers, as many digits each."""
    it, setting, draws = trained.digits, trained.setting, trained.draws.fold_in("recognising")
    own = alone(it.train)
    n = min(setting.made * WORDS, len(it.train))
    order = torch.randperm(len(it.train), generator=draws.stream("real").shared_generator())[:n]
    sets = {
        "real": (Pieces(own.x[order], own.valid[order]), torch.tensor([clip.digit for clip in it.train])[order]),
        **{kind: generated(trained, kind, draws.fold_in(kind)) for kind in ("drawn", "at once")},
    }
    test, answer = alone(it.test), torch.tensor([clip.digit for clip in it.test])
    teach = functools.partial(train_judge, len(NAMES), steps=setting.listener, draws=draws, bands=MEL.n_mels)
    right = {kind: teach(picked(*some, draws.fold_in(kind))).right(test, answer) for kind, some in sets.items()}
    return Taught(right["real"], right["drawn"], right["at once"])


@spoken("a recogniser learns from generated speech", "word error rate: real 2.6, generated 3.1 and 7.1 %")
def synthetic(setting: Setting) -> Iterator[Claim]:
    """Teach recognisers digits that were generated, or real ones."""
    found = measured(setting, measure)
    real, drawn, once = ([getattr(one, name) for one in found] for name in ("real", "drawn", "at_once"))
    figures = (
        f"real test digits that are told rightly: taught by real ones {mean_of(real, 3)}, by generated ones with"
        f" durations that are drawn {mean_of(drawn, 3)}, by regression {mean_of(once, 3)};"
        f" {setting.made * WORDS:,} each"
    )
    yield Claim(
        "a recogniser that has only heard generated digits understands real ones",
        "word error rate 3.1 %, taught by real speech 2.6 %",
        figures,
        f"{spread_of(drawn)} with durations that are drawn; asked to be {LEARNED:g}, chance is {CHANCE:g}",
        verdict(min(drawn) >= LEARNED),
    )
    gaps = [a - b for a, b in zip(real, drawn, strict=True)]
    yield Claim(
        "real digits teach more than generated ones",
        "word error rate 2.6 against 3.1 %",
        figures,
        f"{spread_of(gaps)}, more of the digits",
        verdict(min(gaps) > 0),
    )
    gaps = [a - b for a, b in zip(drawn, once, strict=True)]
    yield Claim(
        "digits whose durations are drawn teach at least as much as those by regression",
        "word error rate 3.1 against 7.1 %",
        figures,
        f"{spread_of(gaps)}, more of the digits",
        verdict(min(gaps) >= 0),
    )
