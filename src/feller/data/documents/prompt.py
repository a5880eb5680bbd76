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
from feller.data.documents.token_layout import Hole, Infill
from feller.data.images.load_images import read_pictures
from feller.data.loading.raw import Cut, Item, Said, Shown

_SIGN = re.compile(r"\\<|<(mask|infill|break|(\w+):([^<>]*))>")
PICTURED = 512
"""Longer side, in pixels, to which a picture is brought before it gets the model's size."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A document that is to be continued, or whose holes are to be filled in."""

    items: tuple[Item | Hole | Infill, ...]
    pictures: tuple[UInt8[np.ndarray, "h w c"], ...] = ()
    """Those that are shown, by their numbers."""

    @property
    def has_holes(self) -> bool:
        """Whether anything is to be filled in."""
        return any(isinstance(item, Hole) for item in self.items)

    @property
    def has_gap(self) -> bool:
        """Whether a part of a text is to be filled in, where the rest is said."""
        pairs = pairwise(self.items)
        return any({type(a), type(b)} == {Hole, Said} for a, b in pairs)

    @property
    def words(self) -> str:
        """The text, for people."""
        return " ".join(item.text.strip() for item in self.items if isinstance(item, Said))


def parse(text: str) -> Prompt:
    """Read a prompt as a person types it, and the pictures that it names.

    Without a hole, `<infill>` behind a picture asks for its caption: one stands in front, then.

    Raises:
        UsageError: If there is nothing in it, or what it asks for is not one thing.
        InputError: If a picture cannot be read.
    """
    items: list[Item | Hole | Infill] = []
    pictures: list[np.ndarray] = []
    plain, place = "", 0

    def close() -> None:
        nonlocal plain
        if plain.strip():
            behind_hole = bool(items) and isinstance(items[-1], Hole)  # where the space belongs to what follows
            items.append(Said(plain.rstrip() if behind_hole else plain.strip()))
        plain = ""

    for sign in _SIGN.finditer(text):
        plain += text[place : sign.start()]
        place = sign.end()
        if sign[0] == "\\<" or _is_said(sign):
            plain += sign[0].removeprefix("\\")
            continue
        close()
        if sign[1] == "mask":
            items.append(Hole())
        elif sign[1] == "infill":
            items.append(Infill())
        elif sign[1] == "break":
            items.append(Cut())
        else:
            if not sign[3].strip():
                raise UsageError("<image:> names no file", remedy="Write <image:cat.png>")
            items.append(Shown(len(pictures)))
            pictures.append(picture_of(sign[3]))
    plain += text[place:]
    close()
    return Prompt(_checked(items), tuple(pictures))


def _is_said(sign: re.Match[str]) -> bool:
    """Tell whether what stands in angle brackets with a colon is said, and shows no picture."""
    if sign[2] in (None, "image"):
        return False
    if best_match(sign[2], ["image"], cutoff=0.7):
        raise UsageError(f"did you mean <image:{sign[3]}>", found=sign[0], remedy="A backslash before < makes it words")
    return True


def _checked(items: Sequence[Item | Hole | Infill]) -> tuple[Item | Hole | Infill, ...]:
    """Return items that ask for one thing; UsageError if they do not."""
    kept = [item for item in items if not isinstance(item, Infill)]
    asked = len(items) - len(kept)
    if not kept:
        raise UsageError(
            "the prompt is empty", remedy="Write what is to be drawn, or <image:FILE> <infill> for a caption"
        )
    if asked > 1 or (asked and not isinstance(items[-1], Infill)):
        raise UsageError("<infill> stands once, and last: what is to be filled in are the <mask>s before it")
    holes = sum(isinstance(item, Hole) for item in kept)
    if asked and not holes:
        if not any(isinstance(item, Shown) for item in kept):
            raise UsageError("<infill> asks for the content of a <mask>, or for the caption of an <image:FILE>")
        kept, holes = [Hole(), *kept], 1
    return (*kept, Infill()) if holes else tuple(kept)


def picture_of(name: str) -> UInt8[np.ndarray, "h w c"]:
    """Read a picture that a person names; InputError if it is not there or cannot be read."""
    path = pathlib.Path(name)
    try:
        is_there = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero
        is_there = False
    if not is_there:
        raise InputError(f"there is no picture {name[:200]}")
    values, _ = read_pictures([path], None, PICTURED)
    return values[0]


EDIT = "Edit first image following the instruction"
QUESTION, ANSWER, STOP = "Question: ", " Answer: ", "."


def edit(instruction: str) -> tuple[Item, ...]:
    """Return what stands before an edited picture, of which picture 0 is the first."""
    return (Said(EDIT), Shown(0), Said(instruction))


def question(asked: str, answer: Item | Hole) -> tuple[Item | Hole, ...]:
    """Return a question about picture 0."""
    return (Said(f"{QUESTION}{asked}{ANSWER}"), answer, Said(STOP), Shown(0))


def ask(asked: str) -> Sequence[Item | Hole | Infill]:
    """Return a question about picture 0 whose answer is asked for."""
    return (*question(asked, Hole()), Infill())


def question_in(items: Sequence[Item]) -> str:
    """Return what a document asks; empty where it is no question."""
    first = items[0].text.strip() if items and isinstance(items[0], Said) else ""
    stem, end = QUESTION.strip(), ANSWER.strip()
    return first.removeprefix(stem).removesuffix(end).strip() if first.startswith(stem) and first.endswith(end) else ""


def instruction_in(items: Sequence[Item]) -> str:
    """Return after which words a document edits a picture; empty where it does not."""
    match items:
        case [Said(text=before), Shown(), Said(text=words), Shown()] if before.strip() == EDIT:
            return words.strip()
    return ""
