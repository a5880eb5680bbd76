"""What a person asks of a model of documents: to draw, to describe, to edit, to answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError, UsageError
from feller.data.documents.modality import Documents, Values
from feller.data.documents.prompt import Prompt, ask, edit, parse_prompt, picture_of
from feller.data.documents.token_layout import InfillItem, MaskItem, as_array, encode_items, to_tokens
from feller.data.loading.raw import ImageItem, Item, TextItem
from feller.sampling.autoregressive.decoding_goals import ContinuationGoal, DecodingGoal, ImageGoal, InfillGoal
from feller.sampling.autoregressive.document_grammar import SymbolKind

WHITE = 128
"""Level from which a part of a mask is white."""
MAX_TEXT_TOKENS = 64
"""Symbols of a text that fills a hole, at most."""


@dataclass(frozen=True, eq=False)
class DocumentRequest:
    """A prompt, and what is to be drawn behind it."""

    prompt: Prompt
    goal: DecodingGoal
    mask: UInt8[np.ndarray, "h w c"] | None = None
    """White where the one picture of the prompt is drawn anew; None where it is kept."""

    @property
    def is_image_goal(self) -> bool:
        """Whether it is a picture that is drawn, so that guidance by its text makes sense."""
        return isinstance(self.goal, ImageGoal)

    @property
    def is_text_goal(self) -> bool:
        """Whether nothing but words is filled in."""
        return isinstance(self.goal, InfillGoal) and self.goal.whole_kinds == (SymbolKind.TEXT,)

    def tokens(self, kind: Documents) -> Int64[Tensor, " l"]:
        """Return the symbols of the prompt.

        Raises:
            UsageError: If a character is unknown to the model.
        """
        tokens = _tokens(self.prompt.items, self.prompt, kind)
        return tokens if self.mask is None else _with_holes(tokens, self.mask, kind)[0]

    def decoding_goal(self, kind: Documents) -> DecodingGoal:
        """Return what is to be drawn; under a mask each hole gets the codes that it hides, so that all else stays.

        Raises:
            UsageError: If a character is unknown to the model.
        """
        if self.mask is None:
            return self.goal
        _, sizes = _with_holes(_tokens(self.prompt.items, self.prompt, kind), self.mask, kind)
        return InfillGoal(MAX_TEXT_TOKENS, hole_codes=sizes)

    def with_kept_pixels(self, kind: Documents, values: Values) -> Values:
        """Return what was drawn with the pixels of the person's picture where its codes are kept, not what they keep.

        Raises:
            UsageError: If the mask has no white part.
        """
        if self.mask is None:
            return values
        own, generated = kind.resize_images(self.prompt.pictures[0][None]), values["pictures"]
        rows, columns = kind.tokenizer.grid
        cells = _cells(self.mask, kind).unflatten(0, (rows, columns))
        white = cells.repeat_interleave(kind.height // rows, 0).repeat_interleave(kind.width // columns, 1)
        return {
            **values,
            "pictures": torch.cat([torch.where(white, generated[:, :1], own[:, None]), generated[:, 1:]], 1),
        }

    def without_text(self, kind: Documents) -> Int64[Tensor, " l"]:
        """Return the symbols of the prompt with one hole in the place of each text: what is drawn without it."""
        return _tokens(_holes(self.prompt.items), self.prompt, kind)

    def without_all(self, kind: Documents) -> Int64[Tensor, " l"]:
        """Return the symbols of the prompt of a picture of which nothing is said or shown."""
        return _tokens((MaskItem(),), self.prompt, kind)


def prompt_request(text: str) -> DocumentRequest:
    """Return what a prompt asks for: what fills its holes, or else the picture that follows.

    Raises:
        UsageError: If it asks for no one thing.
        InputError: If a picture cannot be read.
    """
    prompt = parse_prompt(text)
    return DocumentRequest(prompt, InfillGoal(MAX_TEXT_TOKENS, (SymbolKind.TEXT,)) if prompt.has_holes else ImageGoal())


def inpainting_request(text: str, mask: str) -> DocumentRequest:
    """Return what fills the holes of a prompt, and the white parts of its one picture.

    Raises:
        UsageError: If the prompt has no picture, or several.
        InputError: If a picture cannot be read.
    """
    prompt = parse_prompt(text)
    if len(prompt.pictures) != 1:
        raise UsageError("a --prompt with one <image:FILE>", len(prompt.pictures), argument="mask")
    return DocumentRequest(prompt, InfillGoal(MAX_TEXT_TOKENS), picture_of(mask))


def edit_request(picture: str, instruction: str) -> DocumentRequest:
    """Return a picture that is another after an instruction.

    Raises:
        UsageError: If the instruction is empty.
        InputError: If the picture cannot be read.
    """
    return DocumentRequest(Prompt(edit(_require_words(instruction, "--edit")), (picture_of(picture),)), ImageGoal())


def question_request(picture: str, question: str) -> DocumentRequest:
    """Return the answer to a question about a picture.

    Raises:
        UsageError: If the question is empty.
        InputError: If the picture cannot be read.
    """
    items = tuple(ask(_require_words(question, "--ask")))
    return DocumentRequest(Prompt(items, (picture_of(picture),)), InfillGoal(MAX_TEXT_TOKENS, (SymbolKind.TEXT,)))


def unconditional_request(context: int) -> DocumentRequest:
    """Return a whole document, of which nothing is said."""
    return DocumentRequest(Prompt(()), ContinuationGoal(context - 1))


def _require_words(text: str, flag: str) -> str:
    if not text.strip():
        raise UsageError(f"{flag} takes a picture and words, and the words are empty")
    return text.strip()


def _cells(mask: UInt8[np.ndarray, "h w c"], kind: Documents) -> Bool[Tensor, " codes"]:
    """Tell which codes of a picture have white in them."""
    white = kind.resize_images(mask[None]).amax((0, 1)) >= WHITE
    cells = F.adaptive_max_pool2d(white[None].float(), kind.tokenizer.grid).flatten() > 0
    if not cells.any():
        raise UsageError("the mask has no white part, so there is nothing to draw; white is drawn, black is kept")
    return cells


def _with_holes(
    tokens: Int64[Tensor, " l"], mask: UInt8[np.ndarray, "h w c"], kind: Documents
) -> tuple[Int64[Tensor, " m"], tuple[int, ...]]:
    """Put a hole in the place of each run of codes whose cells are white somewhere; tell how many each hole hides."""
    cells = _cells(mask, kind)
    hidden = torch.zeros(len(tokens), dtype=torch.bool)
    hidden[kind.symbols.is_code(tokens)] = cells
    begins = hidden & ~F.pad(hidden, (1, 0))[:-1]
    counts = (begins.cumsum(0) - 1)[hidden].bincount()
    sizes = torch.zeros(len(tokens), dtype=torch.long).masked_scatter(begins, counts)
    holes = begins | (tokens == kind.symbols.mask)
    return torch.where(begins, kind.symbols.mask, tokens)[begins | ~hidden], tuple(sizes[holes].tolist())


def _holes(items: Sequence[Item | MaskItem | InfillItem]) -> tuple[Item | MaskItem | InfillItem, ...]:
    """Return items with a hole for each text; neighbours are one."""
    result: list[Item | MaskItem | InfillItem] = []
    for item in items:
        if not isinstance(item, TextItem):
            result.append(item)
        elif not (result and isinstance(result[-1], MaskItem)):
            result.append(MaskItem())
    return tuple(result)


def _tokens(items: Sequence[Item | MaskItem | InfillItem], prompt: Prompt, kind: Documents) -> Int64[Tensor, " l"]:
    """Return the symbols of items."""
    if not items:
        return torch.tensor([kind.symbols.eos])
    shown = [kind.resize_images(prompt.pictures[item.number][None]) for item in items if isinstance(item, ImageItem)]
    none = torch.zeros(0, kind.channels, kind.height, kind.width, dtype=torch.uint8)
    codes = kind.tokenizer.encode(torch.cat([none, *shown]))
    try:
        row = encode_items(items, kind.vocabulary)
    except InputError as error:
        raise UsageError(f"in what is asked: {error}") from error
    return to_tokens(as_array([row]), codes, kind.symbols)[0]
