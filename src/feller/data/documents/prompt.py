"""Prompts: text and images with masks, and templates of instructions.

`<mask>` is a hole, `<infill>` asks for its content, `<break>` ends a text that another follows, and `<image:FILE>` is a
picture. A backslash before `<` makes it plain text, and so is all else in angle brackets but a misspelt `<image:FILE>`.
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
"""Longer side, in pixels, to which a picture is brought before it gets the model's size."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A document that is to be continued, or whose holes are to be filled in."""

    items: tuple[Item | MaskItem | InfillItem, ...]
    pictures: tuple[UInt8[np.ndarray, "h w c"], ...] = ()
    """Those that are shown, by their numbers."""

    @property
    def has_holes(self) -> bool:
        """Whether anything is to be filled in."""
        return any(isinstance(item, MaskItem) for item in self.items)

    @property
    def has_gap(self) -> bool:
        """Whether a part of a text is to be filled in, where the rest is said."""
        pairs = pairwise(self.items)
        return any({type(a), type(b)} == {MaskItem, TextItem} for a, b in pairs)

    @property
    def words(self) -> str:
        """The text, for people."""
        return " ".join(item.text.strip() for item in self.items if isinstance(item, TextItem))


def parse_prompt(text: str) -> Prompt:
    """Read a prompt as a person types it, and the pictures that it names.

    Without a hole, `<infill>` behind a picture asks for its caption: one stands in front, then.

    Raises:
        UsageError: If there is nothing in it, or what it asks for is not one thing.
        InputError: If a picture cannot be read.
    """
    items: list[Item | MaskItem | InfillItem] = []
    pictures: list[np.ndarray] = []
    plain, place = "", 0

    def close() -> None:
        nonlocal plain
        if plain.strip():
            behind_hole = bool(items) and isinstance(items[-1], MaskItem)  # where the space belongs to what follows
            items.append(TextItem(plain.rstrip() if behind_hole else plain.strip()))
        plain = ""

    for sign in _SIGN.finditer(text):
        plain += text[place : sign.start()]
        place = sign.end()
        if sign[0] == "\\<" or _is_plain_text(sign):
            plain += sign[0].removeprefix("\\")
            continue
        close()
        if sign[1] == "mask":
            items.append(MaskItem())
        elif sign[1] == "infill":
            items.append(InfillItem())
        elif sign[1] == "break":
            items.append(BreakItem())
        else:
            if not sign[3].strip():
                raise UsageError("<image:> names no file", remedy="Write <image:cat.png>")
            items.append(ImageItem(len(pictures)))
            pictures.append(picture_of(sign[3]))
    plain += text[place:]
    close()
    return Prompt(_checked(items), tuple(pictures))


def _is_plain_text(sign: re.Match[str]) -> bool:
    """Tell whether what stands in angle brackets with a colon is said, and shows no picture."""
    if sign[2] in (None, "image"):
        return False
    if best_match(sign[2], ["image"], cutoff=0.7):
        raise UsageError(f"did you mean <image:{sign[3]}>", found=sign[0], remedy="A backslash before < makes it words")
    return True


def _checked(items: Sequence[Item | MaskItem | InfillItem]) -> tuple[Item | MaskItem | InfillItem, ...]:
    """Return items that ask for one thing; UsageError if they do not."""
    kept = [item for item in items if not isinstance(item, InfillItem)]
    num_infills = len(items) - len(kept)
    if not kept:
        raise UsageError(
            "the prompt is empty", remedy="Write what is to be drawn, or <image:FILE> <infill> for a caption"
        )
    if num_infills > 1 or (num_infills and not isinstance(items[-1], InfillItem)):
        raise UsageError("<infill> stands once, and last: what is to be filled in are the <mask>s before it")
    holes = sum(isinstance(item, MaskItem) for item in kept)
    if num_infills and not holes:
        if not any(isinstance(item, ImageItem) for item in kept):
            raise UsageError("<infill> asks for the content of a <mask>, or for the caption of an <image:FILE>")
        kept, holes = [MaskItem(), *kept], 1
    return (*kept, InfillItem()) if holes else tuple(kept)


def picture_of(name: str) -> UInt8[np.ndarray, "h w c"]:
    """Read a picture that a person names; InputError if it is not there or cannot be read."""
    path = pathlib.Path(name)
    try:
        is_there = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero
        is_there = False
    if not is_there:
        raise InputError(f"there is no picture {name[:200]}")
    values, _ = read_images([path], None, MAX_PROMPT_SIDE)
    return values[0]


EDIT = "Edit first image following the instruction"
QUESTION, ANSWER, STOP = "Question: ", " Answer: ", "."


def edit(instruction: str) -> tuple[Item, ...]:
    """Return what stands before an edited picture, of which picture 0 is the first."""
    return (TextItem(EDIT), ImageItem(0), TextItem(instruction))


def question(question_text: str, answer: Item | MaskItem) -> tuple[Item | MaskItem, ...]:
    """Return a question about picture 0."""
    return (TextItem(f"{QUESTION}{question_text}{ANSWER}"), answer, TextItem(STOP), ImageItem(0))


def ask(question_text: str) -> Sequence[Item | MaskItem | InfillItem]:
    """Return a question about picture 0 whose answer is asked for."""
    return (*question(question_text, MaskItem()), InfillItem())


def question_in(items: Sequence[Item]) -> str:
    """Return what a document asks; empty where it is no question."""
    first = items[0].text.strip() if items and isinstance(items[0], TextItem) else ""
    stem, end = QUESTION.strip(), ANSWER.strip()
    return first.removeprefix(stem).removesuffix(end).strip() if first.startswith(stem) and first.endswith(end) else ""


def instruction_in(items: Sequence[Item]) -> str:
    """Return after which words a document edits a picture; empty where it does not."""
    match items:
        case [TextItem(text=before), ImageItem(), TextItem(text=words), ImageItem()] if before.strip() == EDIT:
            return words.strip()
    return ""
