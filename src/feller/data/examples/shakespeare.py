"""Plays of Shakespeare."""

import pathlib
from dataclasses import replace

from feller.data.loading.raw import FoundTexts, as_objects
from feller.data.modality import Dataset
from feller.data.text.dataset import WINDOW, texts
from feller.data.text.files import find_text
from feller.data.text.text_modality import Text
from feller.data.text.vocabulary import Characters

SHAKESPEARE_TRAIN = 0.9
"""Share of the characters that is `train`; those after it are `test`."""


def shakespeare_text(part: str) -> FoundTexts:
    """Return the first 90 % of the plays or, as `test`, the rest, as one text."""
    whole = _whole()
    text = whole.values[0]
    border = int(SHAKESPEARE_TRAIN * len(text))
    return replace(whole, values=as_objects([text[:border] if part == "train" else text[border:]]))


def shakespeare(part: str) -> Dataset:
    """Return windows of 128 characters, of the 65 that all the plays have."""
    symbols = "".join(sorted(set(_whole().values[0])))
    return texts(shakespeare_text(part), like=Text(Characters(symbols), WINDOW, documents=False))


def _whole() -> FoundTexts:
    return find_text(pathlib.Path(__file__).with_name("shakespeare.txt.gz"))
