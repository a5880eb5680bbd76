"""Numbers for texts, against counts by hand."""

from collections import Counter

import pytest

from feller.core.rng import Rng
from feller.data.loading.raw import RawTexts, object_array
from feller.data.modality import Dataset
from feller.data.text.dataset import text_dataset
from feller.evaluation.text_metrics import PASSAGE, copied_passage_fraction, text_quality, total_variation, trigrams

WORDS = ("sea", "ship", "shore", "gull", "sun", "sail", "wind", "wave", "sand", "foam", "mast", "rope")


def sentences(seed: int, n: int = 120) -> list[str]:
    """Return texts of eight words each."""
    picks = Rng(seed).stream("words").randint(len(WORDS), (n, 8))
    return [" ".join(WORDS[i] for i in row) for row in picks.tolist()]


def dataset(lines: list[str], like: Dataset | None = None) -> Dataset:
    found = RawTexts(object_array(lines), documents=True)
    return text_dataset(found, like=like.modality if like else None)


def test_copied_whole_of_short_texts() -> None:
    """Of names, hardly one of which has 24 characters; of longer texts there is no such number."""
    names = [f"name {i}" for i in range(60)]
    known, unseen = dataset(names), dataset([*names[:15], *(f"other {i}" for i in range(45))])
    made = dataset([*names[:30], *(f"new {i}" for i in range(30))])
    numbers = text_quality(made, known, unseen, Rng(0))
    assert (numbers["copied_whole"], numbers["copied_whole_floor"]) == (0.5, 0.25)
    assert text_quality(made, known, dataset(names[:9]), Rng(0))["copied_whole_floor"] is None
    longer = dataset(sentences(0))
    assert "copied_whole" not in text_quality(longer, longer, longer, Rng(0))


def test_trigrams() -> None:
    assert trigrams(["abab", "ab", ""]) == Counter({"aba": 1, "bab": 1})


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ({"abc": 2, "bcd": 2}, {"abc": 1, "bcd": 1}, 0.0),
        ({"abc": 3, "bcd": 1}, {"abc": 1, "bcd": 1}, 0.25),
        ({"abc": 1}, {"bcd": 5}, 1.0),
    ],
)
def test_total_variation(a: dict[str, int], b: dict[str, int], distance: float) -> None:
    assert total_variation(Counter(a), Counter(b)) == pytest.approx(distance)
    assert total_variation(Counter(b), Counter(a)) == pytest.approx(distance)
    assert total_variation(Counter(a), Counter()) is None


def test_copied_passage_fraction() -> None:
    """Of 27 letters there are four passages of 24; a known text of 25 of them has two."""
    text = "abcdefghijklmnopqrstuvwxyz!"
    assert len(text) == PASSAGE + 3
    assert copied_passage_fraction([text], [text]) == 1
    assert copied_passage_fraction([text], [text[:25]]) == 0.5
    assert copied_passage_fraction([text], [text[:23], text[5:]]) == 0
    assert copied_passage_fraction([text[:23]], [text]) is None


def test_held_out_text() -> None:
    train, held_out = dataset(sentences(0)), sentences(1)
    unseen = dataset(held_out, train)
    numbers = text_quality(unseen, train, unseen, Rng(0))
    assert numbers["trigram_distance"] == 0
    assert 0 < numbers["trigram_floor"] < 0.3
    assert numbers["copied"] == numbers["copied_floor"] < 0.1


def test_training_text() -> None:
    train = dataset(sentences(0))
    numbers = text_quality(train, train, dataset(sentences(1), train), Rng(0))
    assert numbers["copied"] == 1
    assert numbers["copied_floor"] < 0.1
    assert numbers["trigram_distance"] == pytest.approx(numbers["trigram_floor"], abs=0.05)


def test_random_letters() -> None:
    train = dataset(sentences(0))
    letters = train.modality.vocabulary.symbols
    picks = Rng(2).stream("letters").randint(len(letters), (120, 40)).tolist()
    noise = dataset(["".join(letters[i] for i in row) for row in picks], train)
    numbers = text_quality(noise, train, dataset(sentences(1), train), Rng(0))
    assert numbers["trigram_distance"] > 0.8
    assert numbers["copied"] == 0


def test_no_held_out_text() -> None:
    train = dataset(sentences(0))
    few = dataset(sentences(1), train).subset(train.values.new_tensor([], dtype=train.values.dtype))
    numbers = text_quality(train, train, few, Rng(0))
    assert numbers["trigram_floor"] is None
    assert numbers["copied_floor"] is None
