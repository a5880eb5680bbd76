"""Document prompts: interleaved text and images with masks, and instruction templates.

Syntax: `<mask>` is a hole, `<infill>` requests its content, `<break>` separates two texts, `<image:FILE>` is an image.
A backslash before `<` makes it plain text; other angle brackets are plain text too, but a misspelt `<image:FILE>` is an
error.
"""

import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8

from feller.core.errors import InputError, UsageError, best_match
from feller.data.documents.token_layout import InfillItem, MaskItem
from feller.data.images.image_loading import read_images
from feller.data.loading.raw import BreakItem, ImageItem, Item, TextItem

_SIGN = re.compile(r"\\<|<(mask|infill|break|(\w+):([^<>]*))>")
MAX_PROMPT_SIDE = 512
"""Maximum longer side of an image, in pixels; larger images are downscaled when they are read."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """Document that a model continues or, if it contains masks, whose masked parts (holes) it fills."""

    items: tuple[Item | MaskItem | InfillItem, ...]
    pictures: tuple[UInt8[np.ndarray, "h w c"], ...] = ()
    """Images of the prompt; `ImageItem.number` is an index into them."""

    @property
    def has_holes(self) -> bool:
        """True if the prompt contains masks."""
        return any(isinstance(item, MaskItem) for item in self.items)

    @property
    def has_gap(self) -> bool:
        """True if a mask is adjacent to text, so that the hole is a part of a text."""
        pairs = pairwise(self.items)
        return any({type(a), type(b)} == {MaskItem, TextItem} for a, b in pairs)

    @property
    def words(self) -> str:
        """Text of the prompt, for display."""
        return " ".join(item.text.strip() for item in self.items if isinstance(item, TextItem))


def parse_prompt(text: str) -> Prompt:
    """Parse the text of a prompt, and read the image files named in it.

    If there is no mask, `<infill>` after an image requests the caption of the image: a mask is inserted before the
    image.

    Raises:
        UsageError: If the prompt is empty, or `<infill>` is misplaced.
        InputError: If an image cannot be read.
    """
    items: list[Item | MaskItem | InfillItem] = []
    images: list[np.ndarray] = []
    plain_text, position = "", 0

    def close() -> None:
        nonlocal plain_text
        if plain_text.strip():
            after_mask = bool(items) and isinstance(items[-1], MaskItem)  # the trailing space belongs to the next item
            items.append(TextItem(plain_text.rstrip() if after_mask else plain_text.strip()))
        plain_text = ""

    for match in _SIGN.finditer(text):
        plain_text += text[position : match.start()]
        position = match.end()
        if match[0] == "\\<" or _is_plain_text(match):
            plain_text += match[0].removeprefix("\\")
            continue
        close()
        if match[1] == "mask":
            items.append(MaskItem())
        elif match[1] == "infill":
            items.append(InfillItem())
        elif match[1] == "break":
            items.append(BreakItem())
        else:
            if not match[3].strip():
                raise UsageError("a file name in <image:FILE>", "none", "Write, for example, <image:cat.png>")
            items.append(ImageItem(len(images)))
            images.append(picture_of(match[3]))
    plain_text += text[position:]
    close()
    return Prompt(_checked(items), tuple(images))


def _is_plain_text(match: re.Match[str]) -> bool:
    """Return True unless a bracket in a prompt denotes an image; UsageError if it looks like a misspelt image."""
    if match[2] in (None, "image"):
        return False
    if best_match(match[2], ["image"], cutoff=0.7):
        raise UsageError(f"<image:{match[3]}>", match[0], "Put a backslash before < for plain text")
    return True


def _checked(items: Sequence[Item | MaskItem | InfillItem]) -> tuple[Item | MaskItem | InfillItem, ...]:
    """Return the items of a prompt, with a <mask> in front if `<infill>` follows an image without any <mask>.

    UsageError if the prompt is empty or `<infill>` is misplaced.
    """
    kept = [item for item in items if not isinstance(item, InfillItem)]
    num_infills = len(items) - len(kept)
    if not kept:
        raise UsageError(
            "the prompt is empty", remedy="Describe the document, or use <image:FILE> <infill> for a caption"
        )
    if num_infills > 1 or (num_infills and not isinstance(items[-1], InfillItem)):
        raise UsageError(
            "<infill> once, at the end, after the <mask>s to fill", "<infill> at another position, or more than once"
        )
    num_masks = sum(isinstance(item, MaskItem) for item in kept)
    if num_infills and not num_masks:
        if not any(isinstance(item, ImageItem) for item in kept):
            raise UsageError("a <mask> or an <image:FILE> before <infill>", "neither")
        kept, num_masks = [MaskItem(), *kept], 1
    return (*kept, InfillItem()) if num_masks else tuple(kept)


def picture_of(name: str) -> UInt8[np.ndarray, "h w c"]:
    """Read an image file; InputError if it does not exist or cannot be read."""
    path = pathlib.Path(name)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # the name is too long, or contains a null byte
        exists = False
    if not exists:
        raise InputError("an image file", f"{name[:200]}, which does not exist")
    values, _ = read_images([path], None, MAX_PROMPT_SIDE)
    return values[0]


EDIT = "Edit first image following the instruction"
QUESTION, ANSWER, STOP = "Question: ", " Answer: ", "."


def edit(instruction: str) -> tuple[Item, ...]:
    """Return the items of an editing prompt: the first image (number 0), then the instruction."""
    return (TextItem(EDIT), ImageItem(0), TextItem(instruction))


def question(question_text: str, answer: Item | MaskItem) -> tuple[Item | MaskItem, ...]:
    """Return the items of a question about the first image (number 0), with its answer."""
    return (TextItem(f"{QUESTION}{question_text}{ANSWER}"), answer, TextItem(STOP), ImageItem(0))


def ask(question_text: str) -> Sequence[Item | MaskItem | InfillItem]:
    """Return the items of a prompt that asks a question about the first image (number 0); the answer is a mask."""
    return (*question(question_text, MaskItem()), InfillItem())


def question_in(items: Sequence[Item]) -> str:
    """Return the question of a document; empty if the document is not a question."""
    first = items[0].text.strip() if items and isinstance(items[0], TextItem) else ""
    stem, end = QUESTION.strip(), ANSWER.strip()
    return first.removeprefix(stem).removesuffix(end).strip() if first.startswith(stem) and first.endswith(end) else ""


def instruction_in(items: Sequence[Item]) -> str:
    """Return the editing instruction of a document; empty if the document is not an edit."""
    match items:
        case [TextItem(text=prefix), ImageItem(), TextItem(text=instruction), ImageItem()] if prefix.strip() == EDIT:
            return instruction.strip()
    return ""
