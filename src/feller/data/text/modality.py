"""Text modality: token sequences of fixed length, with infilling."""

import pathlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError, check_number, error_context
from feller.core.pytree import Cond
from feller.core.serialization import replace_file
from feller.data.files import sample_folder
from feller.data.labels import LABEL_NAMES, TEXT_NAME, label_arrays, label_names, relabel
from feller.data.loading.raw import RawExamples, RawTexts, expect
from feller.data.modality import Modality, Writer
from feller.data.text.figure import MAX_TEXTS, page
from feller.data.text.files import JSON_LINES_FILE, LINES_FILE, lines_of, to_json_lines, to_lines, to_table
from feller.data.text.vocabulary import Vocabulary
from feller.spaces import Tokens
from feller.spaces.tokens import mask_until_end

GAP = re.compile("(_+)")
"""Regular expression for consecutive underscores, each of which stands for one token to generate."""


def parse_gaps(
    text: str, vocabulary: Vocabulary, length: int
) -> tuple[Int64[Tensor, " length"], Bool[Tensor, " length"]]:
    """Tokenise a template with underscores as unknown tokens; return the tokens (0 if unknown) and the known mask.

    Raises:
        UsageError: If a character is not in the vocabulary, or the text is too long.
    """
    stand_in = vocabulary.decode([0])
    try:
        # Errors count characters from the start of the text.
        vocabulary.encode(GAP.sub(lambda gap: stand_in * len(gap[0]), text))
        pieces = [([0] * len(p), False) if p.startswith("_") else (vocabulary.encode(p), True) for p in GAP.split(text)]
    except InputError as error:
        raise UsageError(f"the template cannot be tokenised: {error}") from error
    ids = [token for tokens, _ in pieces for token in tokens]
    observed = [is_observed for tokens, is_observed in pieces for _ in tokens]
    if len(ids) > length:
        raise UsageError(
            f"the template has {len(ids)} {vocabulary.unit} including gaps; the model's texts have {length}",
            remedy="Shorten the template",
        )
    padding = length - len(ids)
    return torch.tensor([*ids, *[0] * padding]), torch.tensor([*observed, *[False] * padding])


@dataclass(frozen=True)
class Text(Modality):
    """Modality of texts; values and states are token ids, int64 [n, length].

    A window of a long text has `length` tokens. A document ends with the end-of-sequence token, the largest id, which
    also pads it to `length`; a document of `length` tokens has no end token. Tokens after the first end token are
    ignored.
    """

    has_vocabulary = True
    display_name = "text"
    raw_type = RawTexts
    has_density = False  # tokens are discrete

    vocabulary: Vocabulary
    length: int
    """Number of tokens per example."""
    documents: bool
    """True if examples are whole documents with an end-of-sequence token, False if they are windows of a longer
    text."""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number("length", self.length, ge=1, kind=InputError)

    @property
    def vocab_size(self) -> int:
        """Vocabulary size, including the end-of-sequence token."""
        return self.vocabulary.vocab_size + self.documents

    @property
    def eos_token_id(self) -> int | None:
        return self.vocabulary.vocab_size if self.documents else None

    def num_entries(self, values: Int64[Tensor, "n l"]) -> Int64[Tensor, " n"]:
        if self.eos_token_id is None:
            return super().num_entries(values)
        return mask_until_end(values, self.eos_token_id).sum(1)

    @property
    def writers(self) -> dict[str, Writer]:
        return {
            ".txt": lambda values, given, out: replace_file(out, to_lines(self.texts(values))),
            ".jsonl": lambda values, given, out: replace_file(out, self._json_lines(values, given)),
            ".csv": lambda values, given, out: replace_file(
                out, to_table(self.texts(values), label_names(given, self.classes))
            ),
            ".npz": self._write_arrays,
            "": self._write_folder,
        }

    def frame(self, values: Int64[Tensor, "n l"], given: Cond) -> pd.DataFrame:
        labels = label_names(given, self.classes)
        return pd.DataFrame({TEXT_NAME: self.texts(values), **({} if labels is None else {LABEL_NAMES[0]: labels})})

    def with_text_length(self, length: int) -> "Text":
        return replace(self, length=length)

    def space(self) -> Tokens:
        return Tokens(self.vocab_size, (self.length,))

    def encode(self, values: Int64[Tensor, "n l"]) -> Int64[Tensor, "n l"]:
        return self._check(values)

    def decode(self, state: Int64[Tensor, "n l"]) -> Int64[Tensor, "n l"]:
        """Return the tokens unchanged; InputError if a token, such as a mask token, is not in the vocabulary."""
        return self._check(state)

    def _check(self, values: Tensor) -> Tensor:
        if values.dtype != torch.int64 or values.shape[1:] != (self.length,):
            raise InputError(f"token ids [n, {self.length}] in int64", f"{list(values.shape)} in {values.dtype}")
        invalid = (values < 0) | (values >= self.vocab_size)
        if invalid.any():
            raise InputError(
                f"{int(invalid.any(1).sum())} of {len(values)} texts have tokens outside 0 to {self.vocab_size - 1},"
                f" such as {values[invalid][0]}; masks remain if the simulation stops early",
                remedy="Run the simulation until t = 1",
            )
        return values

    def texts(self, values: Int64[Tensor, "n l"]) -> list[str]:
        """Decode token ids to texts, each up to its first end-of-sequence token."""
        return [self.vocabulary.decode(row) for row in self._rows(values)]

    def _rows(self, values: Tensor) -> list[list[int]]:
        rows = values.tolist()
        if not self.documents:
            return rows
        eos = self.vocabulary.vocab_size
        return [row[: row.index(eos)] if eos in row else row for row in rows]

    def observed_tokens(self, text: str) -> tuple[Int64[Tensor, " length"], Bool[Tensor, " length"]]:
        """Tokenise a template; return the tokens and the mask of known tokens.

        Underscores, and all positions after the text, are unknown tokens.

        Raises:
            UsageError: If a character is not in the vocabulary, or the text is too long.
        """
        return parse_gaps(text, self.vocabulary, self.length)

    def rows(self, texts: Sequence[str], name_of: Callable[[int], str]) -> tuple[list[list[int]], int]:
        """Tokenise texts and truncate them to the maximum length; also return the number of truncated texts.

        `name_of` returns the name of a text by its index, for error messages.
        """
        token_rows, num_truncated = [], 0
        for i, text in enumerate(texts):
            with error_context(place=name_of(i)):
                tokens = self.vocabulary.encode(text)
            num_truncated += len(tokens) > self.length
            token_rows.append(tokens[: self.length])
        return token_rows, num_truncated

    def pad(self, rows: list[list[int]]) -> Int64[Tensor, "n length"]:
        """Pad rows of tokens to the length of the modality with the end-of-sequence token."""
        values = torch.full((len(rows), self.length), self.vocabulary.vocab_size)
        for row, tokens in zip(values, rows, strict=True):
            row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        return values

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        """Return the token ids and labels of raw texts.

        Token ids stored in the file are used if their rows have the length of this modality. Otherwise each text is
        tokenised, or each line of a .txt file.
        """
        raw = expect(raw, RawTexts)
        if raw.tokens is not None and raw.tokens.shape[1] == self.length:
            return self._check(torch.from_numpy(raw.tokens)), relabel(raw, self.classes)
        texts = list(raw.values) if raw.documents else lines_of(raw.values[0])
        name_of = name_texts(raw)
        rows, _ = self.rows(texts, name_of)
        short = next((i for i, row in enumerate(rows) if len(row) < self.length), None)
        if short is not None and not self.documents:
            raise InputError(
                f"texts of {self.length} {self.vocabulary.unit}",
                f"{len(rows[short])} in {name_of(short)}",
                "To keep the sampled tokens, write .npz or a folder",
            )
        return self.pad(rows), relabel(raw, self.classes)

    def arrays(self, values: Int64[Tensor, "n l"], given: Cond) -> dict[str, np.ndarray]:
        """Return the .npz arrays of texts: `samples`, strings [n], their token ids `tokens` [n, l], and the labels."""
        return {
            "samples": np.array(self.texts(values), dtype=np.str_),
            "tokens": values.cpu().numpy(),
            **label_arrays(given, self.classes),
        }

    def show(self, values: Int64[Tensor, "n l"], given: Cond, columns: int | None = None) -> Image.Image:
        return page(self.texts(values[:MAX_TEXTS]), label_names(given, self.classes), columns)

    def _json_lines(self, values: Tensor, given: Cond) -> str:
        tokens = None if self._is_lossless(values) else values.tolist()
        return to_json_lines(self.texts(values), label_names(given, self.classes), tokens)

    def _is_lossless(self, values: Tensor) -> bool:
        """Return True if tokenising the decoded texts yields the same tokens."""
        rows = self._rows(values)
        return all(self.vocabulary.encode(self.vocabulary.decode(tokens)) == tokens for tokens in rows)

    def _write_folder(self, values: Tensor, given: Cond, out: pathlib.Path) -> None:
        sample_folder.prepare(out)
        is_plain = label_names(given, self.classes) is None and self._is_lossless(values)
        sample_folder.save_overview(
            self.show(values, given), out, [LINES_FILE] if is_plain else [LINES_FILE, JSON_LINES_FILE]
        )
        replace_file(out / LINES_FILE, to_lines(self.texts(values)))
        if not is_plain:
            replace_file(out / JSON_LINES_FILE, self._json_lines(values, given))


def name_texts(raw: RawExamples) -> Callable[[int], str]:
    """Return a function from the index of a text to its display name: the file name, or "text N"."""
    return lambda i: raw.row_name(i) if raw.names else f"text {raw.row_number(i)}"
