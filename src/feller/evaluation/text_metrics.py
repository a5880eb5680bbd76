"""Metrics of text samples: distance of character trigrams and copied passages."""

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import cast

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.text.modality import Text
from feller.evaluation.comparison import compare_sets, has_enough_held_out, reference_distance, subsample

PASSAGE = 24
"""Length in characters of a passage that is unlikely to occur in two texts by chance."""
MAX_TEXTS_SEARCHED = 500
"""Maximum number of texts that are searched for copied passages."""


def text_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute the trigram distance and the copied passages of samples, each with its floor.

    The floor is the same metric of real texts instead of samples; it is None if too little text is held out.
    """
    sets = compare_sets(samples, train, held_out, rng)
    training_texts = _texts(train)
    distance = reference_distance(
        lambda a, b: total_variation(trigrams(a), trigrams(b)),
        _texts(sets.samples),
        _texts(sets.real),
        None if sets.floor is None else training_texts,
        rng.fold_in("chance"),
    )
    held_out_texts = subsample(held_out, MAX_TEXTS_SEARCHED, rng.fold_in("unseen"))
    subset = subsample(samples, MAX_TEXTS_SEARCHED, rng.fold_in("made"))
    return {
        "trigram_distance": distance.value,
        "trigram_floor": distance.floor,
        "chance_factor": distance.factor,
        "copied": copied_passage_fraction(_texts(subset), training_texts),
        "copied_floor": copied_passage_fraction(_texts(held_out_texts), training_texts)
        if has_enough_held_out(held_out)
        else None,
        **_copied_whole(
            _texts(subset), _texts(held_out_texts) if has_enough_held_out(held_out) else None, training_texts
        ),
    }


def _copied_whole(
    made: list[str], held_out: list[str] | None, training_texts: list[str]
) -> dict[str, float | str | None]:
    """Return fractions of texts equal to a training text, if most texts are too short for passages; else empty."""
    if statistics.median(map(len, training_texts)) >= PASSAGE:
        return {}
    training_set = {*training_texts}
    fractions = (
        None if docs is None else statistics.fmean(text in training_set for text in docs) for docs in (made, held_out)
    )
    return dict(zip(("copied_whole", "copied_whole_floor"), fractions, strict=True))


def _texts(data: Dataset) -> list[str]:
    return cast(Text, data.modality).texts(data.values)


def trigrams(texts: Iterable[str]) -> Counter[str]:
    """Count the character trigrams of texts."""
    return Counter(text[i : i + 3] for text in texts for i in range(len(text) - 2))


def total_variation(a: Counter[str], b: Counter[str]) -> float | None:
    """Return the total variation between the frequencies given by two counters; None if either counter is empty."""
    n_a, n_b = a.total(), b.total()
    if not n_a or not n_b:
        return None
    return min(1.0, sum(abs(a[key] / n_a - b[key] / n_b) for key in a.keys() | b.keys()) / 2)  # rounding may exceed 1


def copied_passage_fraction(texts: Iterable[str], training_texts: Iterable[str]) -> float | None:
    """Return the fraction of passages of texts that occur in training texts; None if no text is long enough."""
    passages = [text[i : i + PASSAGE] for text in texts for i in range(len(text) - PASSAGE + 1)]
    if not passages:
        return None
    query_passages = set(passages)
    copied = {
        passage
        for text in training_texts
        for i in range(len(text) - PASSAGE + 1)
        if (passage := text[i : i + PASSAGE]) in query_passages
    }
    return sum(passage in copied for passage in passages) / len(passages)
