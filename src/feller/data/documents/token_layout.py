"""Documents as rows of numbers of which those below 0 are no text: pictures, and what stands between."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from feller.core.errors import InputError
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.loading.raw import ImageItem, Item, TextItem
from feller.data.text.vocabulary import Vocabulary

IMAGE_MARK, BREAK_MARK, ANSWER_START, ANSWER_END, MASK_MARK, INFILL_MARK, PAD_MARK = -1, -2, -3, -4, -5, -6, -7
"""A picture; the end of a segment; marks around an answer; a hole of a prompt, and where its content is asked for; and
what fills a row up."""


@dataclass(frozen=True)
class MaskItem:
    """A part of a prompt that is to be filled in."""


@dataclass(frozen=True)
class InfillItem:
    """Where the content of a hole is asked for: behind the document."""


def encode_items(items: Sequence[Item | MaskItem | InfillItem], vocabulary: Vocabulary) -> list[int]:
    """Return the numbers of a document: each text is one segment with what was said beside it, each picture one.

    Raises:
        InputError: If a text has no symbols, or a character that the vocabulary lacks.
    """
    row: list[int] = []
    for item in items:
        is_open = bool(row) and row[-1] != BREAK_MARK
        if isinstance(item, TextItem):
            text_ids = vocabulary.encode(item.text)
            row += [ANSWER_START, *text_ids, ANSWER_END] if item.is_answer and text_ids else text_ids
            continue
        if isinstance(item, MaskItem):
            row.append(MASK_MARK)
            continue
        row += [BREAK_MARK] if is_open else []
        if isinstance(item, ImageItem):
            row += [IMAGE_MARK, BREAK_MARK]
        row += [INFILL_MARK] if isinstance(item, InfillItem) else []
    row += [BREAK_MARK] if row and row[-1] not in (BREAK_MARK, INFILL_MARK) else []
    if not row:
        raise InputError("the document is empty", remedy="Give it a text or a picture")
    return row


def as_array(rows: Sequence[Sequence[int]]) -> Int64[Tensor, "n l"]:
    """Fill rows up to the longest."""
    values = np.full((len(rows), max(map(len, rows), default=0)), PAD_MARK, dtype=np.int64)
    for value, row in zip(values, rows, strict=True):
        value[: len(row)] = row
    return torch.from_numpy(values)


def group_by_document(rows: Int64[Tensor, "n l"], parts: Shaped[Tensor, " m *d"]) -> Shaped[Tensor, " n most *d"]:
    """Give each document what belongs to its pictures, which comes in the order of reading; the rest is zero."""
    there = rows == IMAGE_MARK
    most = int(there.sum(1).max()) if len(rows) else 0
    grouped = parts.new_zeros(len(rows), most, *parts.shape[1:])
    document, _ = there.nonzero(as_tuple=True)
    grouped[document, (there.cumsum(1) - 1)[there]] = parts
    return grouped


def ungroup(rows: Int64[Tensor, "n l"], grouped: Shaped[Tensor, " n most *d"]) -> Shaped[Tensor, " m *d"]:
    """Return what belongs to the pictures of all documents, in the order of reading."""
    counts = (rows == IMAGE_MARK).sum(1)
    return grouped[torch.arange(grouped.shape[1]) < counts[:, None]]


def to_tokens(
    rows: Int64[Tensor, "n l"], codes: Int64[Tensor, "m codes"], symbols: DocumentVocabulary
) -> Int64[Tensor, "n tokens"]:
    """Put the codes of pictures, which come in the order of reading, where they are shown."""
    kinds = [
        symbols.pad,
        symbols.infill,
        symbols.mask,
        symbols.answer_end,
        symbols.answer_start,
        symbols.break_token,
        0,
    ]
    flat, structure = rows.flatten(), torch.tensor(kinds)
    times = torch.where(flat == IMAGE_MARK, symbols.picture, (flat != PAD_MARK).long())
    long = flat.repeat_interleave(times)
    tokens = torch.where(long < 0, structure[long.clamp(PAD_MARK, 0) - PAD_MARK - (long >= 0).long()], long)
    tokens[long == IMAGE_MARK] = codes.flatten() + symbols.text
    lengths = times.reshape(rows.shape).sum(1)
    found = torch.full((len(rows), int(lengths.max()) + 1 if len(rows) else 1), symbols.pad)
    found[:, 0] = symbols.eos
    found[:, 1:][torch.arange(found.shape[1] - 1) < lengths[:, None]] = tokens
    return found


def from_tokens(
    tokens: Int64[Tensor, "n l"], symbols: DocumentVocabulary
) -> tuple[Int64[Tensor, "n rows"], Int64[Tensor, "m codes"]]:
    """Return the rows of documents, and the codes of their pictures in the order of reading.

    What follows a second `<eos>` means nothing.

    Raises:
        InputError: If one is no document without holes.
    """
    rows, codes = [], []
    for number, line in enumerate(tokens.tolist(), 1):
        row, shown = _row(line, symbols, number)
        rows.append(row)
        codes += shown
    found = torch.tensor(codes, dtype=torch.long).reshape(-1, symbols.picture)
    return as_array(rows), found


def _row(line: list[int], symbols: DocumentVocabulary, number: int) -> tuple[list[int], list[list[int]]]:
    """Return the numbers of a document and the codes of its pictures."""
    row: list[int] = []
    shown: list[list[int]] = []
    if not line or line[0] != symbols.eos:
        raise InputError("<eos> first", line[:1], place=f"document {number}")
    marks = {symbols.break_token: BREAK_MARK, symbols.answer_start: ANSWER_START, symbols.answer_end: ANSWER_END}
    i = 1
    while i < len(line) and line[i] not in (symbols.eos, symbols.pad):
        token = line[i]
        if token < symbols.text:
            row.append(token)
        elif token < symbols.eos:
            part = line[i : i + symbols.picture]
            whole = len(part) == symbols.picture and all(symbols.text <= code < symbols.eos for code in part)
            if not whole or (row and row[-1] != BREAK_MARK):
                raise InputError(f"{symbols.picture} codes of a picture", "fewer or more", place=f"document {number}")
            row.append(IMAGE_MARK)
            shown.append([code - symbols.text for code in part])
            i += symbols.picture - 1
        elif token in marks:
            row.append(marks[token])
        else:
            raise InputError("no holes and no other symbols", f"{token} at place {i}", place=f"document {number}")
        i += 1
    if i == len(line) and row[-1:] != [BREAK_MARK]:  # it was cut off
        row.append(BREAK_MARK)
    return row, shown
