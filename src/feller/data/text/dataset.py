"""Building of data sets of token sequences: documents, or windows of a long text."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.labels import relabel
from feller.data.loading.raw import RawTexts
from feller.data.modality import Dataset
from feller.data.text.files import is_list, lines_of
from feller.data.text.modality import Text, name_texts
from feller.data.text.subwords import Subwords, learn_subwords
from feller.data.text.vocabulary import Bytes, Characters, Vocabulary

OVERLAP = 4
"""Number of overlapping windows that contain each token; fewer if `MAX_WINDOW_SYMBOLS` limits them."""
MAX_WINDOW_SYMBOLS = 2**26
"""Approximate maximum number of tokens in all windows; in longer texts, windows overlap less, or leave gaps."""
BLOCK = 32
"""Maximum length of a block of text, in window lengths."""
BLOCKS = 20
"""Minimum number of blocks in a text, unless blocks would then be shorter than two windows."""


def cut_windows(tokens: Sequence[int], length: int) -> tuple[Int64[Tensor, "n length"], Int64[Tensor, " n"]]:
    """Cut tokens into overlapping windows of `length` tokens.

    The results are the windows, and for each window the index of the block in which it lies.

    A block is a contiguous part of the text. Blocks share no tokens, so data can be split by blocks without leakage.

    Both results are empty if there are fewer tokens than `length`.
    """
    ids = np.asarray(tokens, dtype=np.int64)
    if len(ids) < length:
        return torch.empty(0, length, dtype=torch.long), torch.empty(0, dtype=torch.long)
    stride = max(1, length // OVERLAP, -(-len(ids) * length // MAX_WINDOW_SYMBOLS))
    span = length * min(BLOCK, max(2, len(ids) // (BLOCKS * length)))
    edges = [*range(0, len(ids) - span + 1, span)] or [0]  # the remainder belongs to the last block
    stops = [*edges[1:], len(ids)]
    starts = [
        np.append(np.arange(start, stop - length, stride), stop - length)
        for start, stop in zip(edges, stops, strict=True)
    ]
    blocks = np.repeat(np.arange(len(starts)), [len(block_starts) for block_starts in starts])
    rows = np.lib.stride_tricks.sliding_window_view(ids, length)[np.concatenate(starts)]
    return torch.from_numpy(rows), torch.from_numpy(blocks)


MAX_LENGTH = 4096
"""Maximum length of an example, in tokens."""
WINDOW, WINDOW_OF_SUBWORDS = 128, 64
"""Default window length in tokens for characters or bytes, and for subwords."""
CHARACTERS = 256
"""Number of distinct characters above which the default vocabulary is bytes instead of characters."""
NAMES = ("bytes", "characters", "subwords")


def text_dataset(
    raw: RawTexts,
    size: int | None = None,
    vocabulary: str | None = None,
    like: Text | None = None,
    *,
    keep_empty: bool = False,
) -> Dataset:
    """Return a data set of texts: documents, or overlapping windows of one long text.

    Args:
        raw: Texts loaded from a file or folder.
        size: Maximum number of tokens per example; by default that of the longest document, or a default window length.
        vocabulary: `characters`, `bytes`, `subwords` or `subwords:N`; by default characters, or bytes if the texts have
            more than 256 distinct characters.
        like: Modality whose length and vocabulary are used, instead of `size` and `vocabulary`.
        keep_empty: True to keep empty documents; has an effect only if `like` is given.

    Raises:
        InputError: If there is no text to train on, or a character is not in the vocabulary of `like`.
        UsageError: If the vocabulary is unknown, or `size` is out of range.
    """
    if size is not None and not 2 <= size <= MAX_LENGTH:
        raise UsageError(f"texts of 2 to {MAX_LENGTH} tokens", size, "Choose a length in this range")
    keep_empty = keep_empty and like is not None and like.documents
    if not keep_empty and not any(text.strip() for text in raw.values):
        raise InputError("the file contains no text")
    raw = _split_examples(raw, like)
    if raw.documents and not keep_empty:
        raw = _without_empty(raw)
    if like is None and len(set().union(*raw.values)) < 2:
        raise InputError("the text is one repeated character, with nothing to learn", remedy="Use another text")
    tokenizer = like.vocabulary if like else make_vocabulary(list(raw.values), vocabulary)
    return (_documents if raw.documents else _windows)(raw, tokenizer, size, like)


def _split_examples(raw: RawTexts, like: Text | None) -> RawTexts:
    """Split a list in a single text into one example per line; mark a single long text to be cut into windows."""
    is_single = len(raw.values) == 1
    text = raw.values[0]
    if not raw.documents and (like.documents if like else is_list(text)):
        lines = lines_of(text)
        note = f"each of the {len(lines):,} lines is an example; to read the text as a whole, store it in a .jsonl"
        values = np.array(lines, dtype=object)
        return replace(raw, values=values, documents=True, notes=(*raw.notes, note))
    is_unlabelled = raw.labels is None and raw.tokens is None
    if raw.documents and is_single and is_unlabelled and not (like and like.documents):
        return replace(raw, documents=False)
    return raw


def _without_empty(raw: RawTexts) -> RawTexts:
    kept = np.array([bool(text.strip()) for text in raw.values])
    if kept.all():
        return raw
    lines = np.array([raw.row_number(i) for i in range(len(kept))])
    note = f"removed {int((~kept).sum()):,} empty texts, the first in line {lines[~kept][0]}"
    return replace(
        raw,
        values=raw.values[kept],
        labels=None if raw.labels is None else raw.labels[kept],
        tokens=None if raw.tokens is None else raw.tokens[kept],
        lines=lines[kept],
        notes=(*raw.notes, note),
    )


def make_vocabulary(values: list[str], name: str | None) -> Vocabulary:
    """Build the named vocabulary from texts; default: characters, or bytes if more than 256 characters occur."""
    if name is None:
        characters = set().union(*values)
        return Characters("".join(sorted(characters))) if len(characters) <= CHARACTERS else Bytes()
    base, _, count = name.partition(":")
    if base not in NAMES or (count and base != "subwords") or not re.fullmatch(r"\w+(:\d+)?", name):
        raise UsageError.unknown_name("vocabulary", base, [*NAMES, "subwords:N"])
    if base == "characters":
        return Characters("".join(sorted(set().union(*values))))
    if base == "bytes":
        return Bytes()
    return learn_subwords(values, int(count)) if count else learn_subwords(values)


def _windows(raw: RawTexts, vocabulary: Vocabulary, size: int | None, like: Text | None) -> Dataset:
    default_length = WINDOW_OF_SUBWORDS if isinstance(vocabulary, Subwords) else WINDOW
    modality = like or Text(vocabulary, size or default_length, documents=False)
    text = "\n".join(raw.values)
    ids = vocabulary.encode(text)
    values, groups = cut_windows(ids, modality.length)
    if len(values) < (1 if like else 2):
        raise InputError(
            f"the text has {len(ids)} {vocabulary.unit}, too few for two examples of length {modality.length}",
            remedy="Use more text, or a smaller --longest",
        )
    gaps = 1 - values.numel() / len(ids)
    coverage = "overlap" if gaps <= 0 else f"omit {gaps:.0%} of it"
    note = (
        f"one text of {len(text):,} characters ({len(set(text))} distinct) was split into {len(values):,}"
        f" windows of {modality.length} {vocabulary.unit}, which {coverage}; rows of a .jsonl or .csv would be"
        " separate examples"
    )
    return Dataset(values, {}, modality, (*raw.notes, note), groups)


def _documents(raw: RawTexts, vocabulary: Vocabulary, size: int | None, like: Text | None) -> Dataset:
    """Return a data set in which each text is one example, padded to a common length."""
    if like is not None and not like.documents:
        return Dataset(*like.values_from_raw(raw), like, raw.notes)
    limit = like.length if like else size or MAX_LENGTH
    modality = like or Text(vocabulary, limit, documents=True, classes=raw.classes)
    rows, num_truncated = modality.rows(list(raw.values), name_texts(raw))
    if len(rows) < 2 and like is None:
        raise InputError("at least two texts", "one", "Add more texts")
    lengths = sorted(map(len, rows))
    notes = raw.notes
    if num_truncated:
        notes = (*notes, f"truncated {num_truncated:,} of {len(rows):,} texts to {limit} {vocabulary.unit}")
    if like is None:
        modality = replace(modality, length=min(lengths[-1] + 1, limit))
        median = lengths[len(lengths) // 2]
        notes = (
            *notes,
            f"{len(rows):,} texts of up to {lengths[-1]} {vocabulary.unit}, median {median},"
            f" {vocabulary.vocab_size} distinct; all are padded to {modality.length}, which --longest reduces",
        )
    return Dataset(modality.pad(rows), relabel(raw, modality.classes), modality, notes)
