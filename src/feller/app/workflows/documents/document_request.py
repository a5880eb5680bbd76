"""Requests to document models: image generation, captioning, editing, inpainting and question answering."""

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
"""Minimum value of a mask pixel that counts as white."""
MAX_TEXT_TOKENS = 64
"""Maximum number of text tokens generated for one masked span."""


@dataclass(frozen=True, eq=False)
class DocumentRequest:
    """Request to a document model: a prompt, and the decoding goal."""

    prompt: Prompt
    goal: DecodingGoal
    mask: UInt8[np.ndarray, "h w c"] | None = None
    """Mask image, white where the prompt's only image is to be regenerated; None to keep all images."""

    @property
    def is_image_goal(self) -> bool:
        """True if the output is an image, to which classifier-free guidance by the text applies."""
        return isinstance(self.goal, ImageGoal)

    @property
    def is_text_goal(self) -> bool:
        """True if the output is only the text of masked spans."""
        return isinstance(self.goal, InfillGoal) and self.goal.whole_kinds == (SymbolKind.TEXT,)

    def tokens(self, kind: Documents) -> Int64[Tensor, " l"]:
        """Return the tokens of the prompt; UsageError if a character is not in the vocabulary."""
        tokens = _tokens(self.prompt.items, self.prompt, kind)
        return tokens if self.mask is None else _with_holes(tokens, self.mask, kind)[0]

    def decoding_goal(self, kind: Documents) -> DecodingGoal:
        """Return the decoding goal; with a mask, each masked span is filled with as many image tokens as it replaces.

        Raises:
            UsageError: If a character is not in the vocabulary.
        """
        if self.mask is None:
            return self.goal
        _, lengths = _with_holes(_tokens(self.prompt.items, self.prompt, kind), self.mask, kind)
        return InfillGoal(MAX_TEXT_TOKENS, hole_codes=lengths)

    def with_kept_pixels(self, kind: Documents, values: Values) -> Values:
        """Return generated documents in which the pixels outside the mask are those of the original image.

        The tokenizer is lossy, so even regions that are not regenerated would otherwise change.

        Args:
            kind: Modality of the model.
            values: Generated documents, whose first image is the regenerated one. Returned unchanged without a mask.

        Raises:
            UsageError: If the mask has no white pixels.
        """
        if self.mask is None:
            return values
        originals, generated = kind.resize_images(self.prompt.pictures[0][None]), values["pictures"]
        rows, columns = kind.tokenizer.grid
        cells = _cells(self.mask, kind).unflatten(0, (rows, columns))
        is_white = cells.repeat_interleave(kind.height // rows, 0).repeat_interleave(kind.width // columns, 1)
        return {
            **values,
            "pictures": torch.cat([torch.where(is_white, generated[:, :1], originals[:, None]), generated[:, 1:]], 1),
        }

    def without_text(self, kind: Documents) -> Int64[Tensor, " l"]:
        """Return the tokens of the prompt with each text masked, for guidance by the images alone."""
        return _tokens(_holes(self.prompt.items), self.prompt, kind)

    def without_all(self, kind: Documents) -> Int64[Tensor, " l"]:
        """Return the tokens of an empty prompt, for the unconditional predictions of classifier-free guidance."""
        return _tokens((MaskItem(),), self.prompt, kind)


def prompt_request(text: str) -> DocumentRequest:
    """Return a request that fills in the masked spans of a prompt or, if there are none, generates the next image.

    Raises:
        UsageError: If the prompt is empty, or `<infill>` is misplaced.
        InputError: If an image cannot be read.
    """
    prompt = parse_prompt(text)
    return DocumentRequest(prompt, InfillGoal(MAX_TEXT_TOKENS, (SymbolKind.TEXT,)) if prompt.has_holes else ImageGoal())


def inpainting_request(text: str, mask: str) -> DocumentRequest:
    """Return a request that regenerates the masked part of the prompt's only image, and fills in masked text.

    Raises:
        UsageError: If the prompt does not have exactly one image.
        InputError: If an image cannot be read.
    """
    prompt = parse_prompt(text)
    if len(prompt.pictures) != 1:
        raise UsageError(
            "a --prompt with exactly one <image:FILE>", f"{len(prompt.pictures)} in the prompt", argument="mask"
        )
    return DocumentRequest(prompt, InfillGoal(MAX_TEXT_TOKENS), picture_of(mask))


def edit_request(picture: str, instruction: str) -> DocumentRequest:
    """Return a request that edits an image as instructed.

    Raises:
        UsageError: If the instruction is empty.
        InputError: If the image cannot be read.
    """
    return DocumentRequest(Prompt(edit(_require_words(instruction, "--edit")), (picture_of(picture),)), ImageGoal())


def question_request(picture: str, question: str) -> DocumentRequest:
    """Return a request that answers a question about an image.

    Raises:
        UsageError: If the question is empty.
        InputError: If the image cannot be read.
    """
    items = tuple(ask(_require_words(question, "--ask")))
    return DocumentRequest(Prompt(items, (picture_of(picture),)), InfillGoal(MAX_TEXT_TOKENS, (SymbolKind.TEXT,)))


def unconditional_request(context: int) -> DocumentRequest:
    """Return a request that generates documents without a prompt, of at most `context` tokens (the model's maximum)."""
    return DocumentRequest(Prompt(()), ContinuationGoal(context - 1))


def _require_words(text: str, flag: str) -> str:
    if not text.strip():
        raise UsageError(f"an image file and a text for {flag}", "no text")
    return text.strip()


def _cells(mask: UInt8[np.ndarray, "h w c"], modality: Documents) -> Bool[Tensor, " codes"]:
    """Return the mask of image tokens to regenerate: those whose part of the mask image has a white pixel."""
    is_white = modality.resize_images(mask[None]).amax((0, 1)) >= WHITE
    cells = F.adaptive_max_pool2d(is_white[None].float(), modality.tokenizer.grid).flatten() > 0
    if not cells.any():
        raise UsageError("white pixels in the mask (white is regenerated, black is kept)", "none")
    return cells


def _with_holes(
    tokens: Int64[Tensor, " l"], mask: UInt8[np.ndarray, "h w c"], modality: Documents
) -> tuple[Int64[Tensor, " m"], tuple[int, ...]]:
    """Replace each run of image tokens under the white part of a mask image by one mask token.

    Return the tokens, and the number of tokens behind each mask token (0 for masks of text).
    """
    cells = _cells(mask, modality)
    is_masked = torch.zeros(len(tokens), dtype=torch.bool)
    is_masked[modality.symbols.is_code(tokens)] = cells
    is_start = is_masked & ~F.pad(is_masked, (1, 0))[:-1]
    counts = (is_start.cumsum(0) - 1)[is_masked].bincount()
    lengths = torch.zeros(len(tokens), dtype=torch.long).masked_scatter(is_start, counts)
    is_hole = is_start | (tokens == modality.symbols.mask)
    return torch.where(is_start, modality.symbols.mask, tokens)[is_start | ~is_masked], tuple(lengths[is_hole].tolist())


def _holes(items: Sequence[Item | MaskItem | InfillItem]) -> tuple[Item | MaskItem | InfillItem, ...]:
    """Return the items with each text replaced by a mask; adjacent masks are merged into one."""
    merged: list[Item | MaskItem | InfillItem] = []
    for item in items:
        if not isinstance(item, TextItem):
            merged.append(item)
        elif not (merged and isinstance(merged[-1], MaskItem)):
            merged.append(MaskItem())
    return tuple(merged)


def _tokens(items: Sequence[Item | MaskItem | InfillItem], prompt: Prompt, modality: Documents) -> Int64[Tensor, " l"]:
    if not items:
        return torch.tensor([modality.symbols.eos])
    images = [
        modality.resize_images(prompt.pictures[item.number][None]) for item in items if isinstance(item, ImageItem)
    ]
    empty = torch.zeros(0, modality.channels, modality.height, modality.width, dtype=torch.uint8)
    codes = modality.tokenizer.encode(torch.cat([empty, *images]))
    try:
        row = encode_items(items, modality.vocabulary)
    except InputError as error:
        raise UsageError(f"invalid prompt: {error}") from error
    return to_tokens(as_array([row]), codes, modality.symbols)[0]
