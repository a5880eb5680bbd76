"""One look through all texts of shards, which tells what a sample cannot: the empty, the longest, all characters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from feller.data.modality import Modality
from feller.data.text.text_modality import Text
from feller.data.text.vocabulary import Characters

TOGETHER = 4096
"""Texts that are looked at together."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What all texts are like; those that are not empty are numbered anew."""

    kept: np.ndarray
    """Old numbers of those that are not empty, [n]."""
    empty: int
    """How many are."""
    longest: np.ndarray
    """Numbers of the texts of most characters and of most bytes, [2]."""
    first: dict[str, int]
    """Each character -> number of the first text that has it."""

    @property
    def first_empty(self) -> int:
        """Old number of the first empty text."""
        gaps = np.flatnonzero(self.kept != np.arange(len(self.kept)))
        return int(gaps[0]) if len(gaps) else len(self.kept)

    def lacking(self, modality: Modality) -> np.ndarray:
        """Return the numbers of the longest, and of texts with characters that are not known."""
        if not isinstance(modality, Text) or not isinstance(modality.vocabulary, Characters):
            return self.longest
        known = {*modality.vocabulary.symbols}
        strangers = {number for character, number in self.first.items() if character not in known}
        return np.append(self.longest, np.array(sorted(strangers), dtype=np.int64))


def survey(chunks: Iterable[Sequence[str]]) -> Survey:
    """Look through texts, some at a time; the first of them are those of the first chunk."""
    kept: list[np.ndarray] = []
    first: dict[str, int] = {}
    longest, most = [0, 0], [-1, -1]
    read = count = 0
    for chunk in chunks:
        places = np.array([i for i, text in enumerate(chunk) if text.strip()], dtype=np.int64)
        texts = [chunk[i] for i in places]
        new = set("".join(texts)) - first.keys()
        for number, text in enumerate(texts, count):
            for k, size in enumerate((len(text), len(text.encode("utf-8", "surrogatepass")))):
                if size > most[k]:
                    longest[k], most[k] = number, size
            if new and (strange := new & set(text)):
                first.update(dict.fromkeys(strange, number))
                new -= strange
        kept.append(places + read)
        read, count = read + len(chunk), count + len(texts)
    numbers = np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)
    return Survey(numbers, read - count, np.array(longest, dtype=np.int64), first)
