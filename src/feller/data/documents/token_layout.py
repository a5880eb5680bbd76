"""Document layout: rows of text token ids (>= 0) and structural marks (< 0), and conversion to model tokens."""

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
"""Structural marks: image; end of a segment; start and end of an answer; mask and infill request of a prompt;
padding."""


@dataclass(frozen=True)
class MaskItem:
    """Masked part (hole) of a prompt, which the model may fill with text or an image."""


@dataclass(frozen=True)
class InfillItem:
    """Request at the end of a prompt for the content of its holes."""


def encode_items(items: Sequence[Item | MaskItem | InfillItem], vocabulary: Vocabulary) -> list[int]:
    """Encode a document as layout ids: text token ids, and negative ids for structural marks such as `IMAGE_MARK`.

    Adjacent texts form one segment, and each image is a segment; a mark ends each segment.

    Raises:
        InputError: If the document is empty, or a text contains characters outside the vocabulary.
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
        raise InputError("the document is empty", remedy="Add a text or an image")
    return row


def as_array(rows: Sequence[Sequence[int]]) -> Int64[Tensor, "n l"]:
    """Pad rows of layout ids to the length of the longest row, and stack them to a tensor [n, l]."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), PAD_MARK, dtype=np.int64)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: len(row)] = row
    return torch.from_numpy(padded)


def group_by_document(rows: Int64[Tensor, "n l"], parts: Shaped[Tensor, " m *d"]) -> Shaped[Tensor, " n most *d"]:
    """Group tensors by document, zero-padded to the maximum number of images of a document.

    Args:
        rows: Documents as layout ids, which contain one `IMAGE_MARK` per image.
        parts: One tensor per image of all documents, in reading order.
    """
    is_image = rows == IMAGE_MARK
    max_images = int(is_image.sum(1).max()) if len(rows) else 0
    grouped = parts.new_zeros(len(rows), max_images, *parts.shape[1:])
    document_index, _ = is_image.nonzero(as_tuple=True)
    grouped[document_index, (is_image.cumsum(1) - 1)[is_image]] = parts
    return grouped


def ungroup(rows: Int64[Tensor, "n l"], grouped: Shaped[Tensor, " n most *d"]) -> Shaped[Tensor, " m *d"]:
    """Return one tensor per image in reading order, without padding; the inverse of `group_by_document`."""
    counts = (rows == IMAGE_MARK).sum(1)
    return grouped[torch.arange(grouped.shape[1]) < counts[:, None]]


def to_tokens(
    rows: Int64[Tensor, "n l"], codes: Int64[Tensor, "m codes"], symbols: DocumentVocabulary
) -> Int64[Tensor, "n tokens"]:
    """Convert rows of layout ids, and image codes in reading order, to model tokens."""
    special_ids = [
        symbols.pad,
        symbols.infill,
        symbols.mask,
        symbols.answer_end,
        symbols.answer_start,
        symbols.break_token,
        0,
    ]
    flat, special = rows.flatten(), torch.tensor(special_ids)
    repeats = torch.where(flat == IMAGE_MARK, symbols.picture, (flat != PAD_MARK).long())
    ids = flat.repeat_interleave(repeats)
    tokens = torch.where(ids < 0, special[ids.clamp(PAD_MARK, 0) - PAD_MARK - (ids >= 0).long()], ids)
    tokens[ids == IMAGE_MARK] = codes.flatten() + symbols.text
    lengths = repeats.reshape(rows.shape).sum(1)
    padded = torch.full((len(rows), int(lengths.max()) + 1 if len(rows) else 1), symbols.pad)
    padded[:, 0] = symbols.eos
    padded[:, 1:][torch.arange(padded.shape[1] - 1) < lengths[:, None]] = tokens
    return padded


def from_tokens(
    tokens: Int64[Tensor, "n l"], symbols: DocumentVocabulary
) -> tuple[Int64[Tensor, "n rows"], Int64[Tensor, "m codes"]]:
    """Convert model tokens to rows of layout ids and image codes in reading order, up to the second `<eos>` of a row.

    Raises:
        InputError: If a row is not a document, or contains `<mask>` or `<infill>`.
    """
    rows, codes = [], []
    for number, row_tokens in enumerate(tokens.tolist(), 1):
        row, row_codes = _row(row_tokens, symbols, number)
        rows.append(row)
        codes += row_codes
    image_codes = torch.tensor(codes, dtype=torch.long).reshape(-1, symbols.picture)
    return as_array(rows), image_codes


def _row(tokens: list[int], symbols: DocumentVocabulary, number: int) -> tuple[list[int], list[list[int]]]:
    """Return the row of a document, in which one mark stands for each image, and the codes of its images.

    `number` is the number of the document in error messages.
    """
    row: list[int] = []
    codes: list[list[int]] = []
    if not tokens or tokens[0] != symbols.eos:
        raise InputError("<eos> as the first token", tokens[:1], place=f"document {number}")
    marks = {symbols.break_token: BREAK_MARK, symbols.answer_start: ANSWER_START, symbols.answer_end: ANSWER_END}
    i = 1
    while i < len(tokens) and tokens[i] not in (symbols.eos, symbols.pad):
        token = tokens[i]
        if token < symbols.text:
            row.append(token)
        elif token < symbols.eos:
            chunk = tokens[i : i + symbols.picture]
            is_complete = len(chunk) == symbols.picture and all(symbols.text <= code < symbols.eos for code in chunk)
            if not is_complete or (row and row[-1] != BREAK_MARK):
                raise InputError(
                    f"{symbols.picture} codes for each image, and a <break> between images",
                    f"another sequence of codes at position {i}",
                    place=f"document {number}",
                )
            row.append(IMAGE_MARK)
            codes.append([code - symbols.text for code in chunk])
            i += symbols.picture - 1
        elif token in marks:
            row.append(marks[token])
        else:
            raise InputError("text, image or structural tokens", f"{token} at position {i}", place=f"document {number}")
        i += 1
    if i == len(tokens) and row[-1:] != [BREAK_MARK]:  # truncated document
        row.append(BREAK_MARK)
    return row, codes
