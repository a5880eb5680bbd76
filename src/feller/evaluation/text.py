"""How close texts are to real ones, symbol by symbol."""

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import cast

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.text.modality import Text
from feller.evaluation.comparison import beside, compare, enough, pick

PASSAGE = 24
"""Characters that hardly come twice by chance."""
MOST = 500
"""Texts whose passages are looked for."""


def text_quality(samples: Dataset, train: Dataset, held_out: Dataset, draws: Rng) -> dict[str, float | str | None]:
    """Compare samples with held-out text. Floors are None where too little is held out."""
    sets = compare(samples, train, held_out, draws)
    known = _texts(train)
    unlike = beside(
        lambda a, b: total_variation(trigrams(a), trigrams(b)),
        _texts(sets.samples),
        _texts(sets.real),
        None if sets.floor is None else known,
        draws.fold_in("chance"),
    )
    unseen = pick(held_out, MOST, draws.fold_in("unseen"))
    made = pick(samples, MOST, draws.fold_in("made"))
    return {
        "trigram_distance": unlike.value,
        "trigram_floor": unlike.floor,
        "chance_factor": unlike.factor,
        "copied": copied(_texts(made), known),
        "copied_floor": copied(_texts(unseen), known) if enough(held_out) else None,
        **_copied_whole(_texts(made), _texts(unseen) if enough(held_out) else None, known),
    }


def _copied_whole(made: list[str], unseen: list[str] | None, known: list[str]) -> dict[str, float | str | None]:
    """Return shares of whole texts that are known, where hardly a text is long enough for passages; nothing else."""
    if statistics.median(map(len, known)) >= PASSAGE:
        return {}
    wanted = {*known}
    shares = (None if some is None else statistics.fmean(text in wanted for text in some) for some in (made, unseen))
    return dict(zip(("copied_whole", "copied_whole_floor"), shares, strict=True))


def _texts(data: Dataset) -> list[str]:
    return cast(Text, data.modality).texts(data.values)


def trigrams(texts: Iterable[str]) -> Counter[str]:
    """Count all triples of neighbouring characters."""
    return Counter(text[i : i + 3] for text in texts for i in range(len(text) - 2))


def total_variation(a: Counter[str], b: Counter[str]) -> float | None:
    """Return half the sum of differences of two sets of shares; None if either is empty."""
    of_a, of_b = a.total(), b.total()
    if not of_a or not of_b:
        return None
    return min(1.0, sum(abs(a[key] / of_a - b[key] / of_b) for key in a.keys() | b.keys()) / 2)  # rounding adds up


def copied(texts: Iterable[str], known: Iterable[str]) -> float | None:
    """Return the share of passages that stand in known texts; None where no text is long enough."""
    passages = [text[i : i + PASSAGE] for text in texts for i in range(len(text) - PASSAGE + 1)]
    if not passages:
        return None
    wanted = set(passages)
    found = {
        passage
        for text in known
        for i in range(len(text) - PASSAGE + 1)
        if (passage := text[i : i + PASSAGE]) in wanted
    }
    return sum(passage in found for passage in passages) / len(passages)
