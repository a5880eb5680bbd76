"""Documents of texts and pictures, and writing them: pairs of files, or JSON lines beside a folder of pictures."""

import io
import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.serialization import replace_file


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a document."""

    values: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Answer:
    """Text that is always hidden in training, so that a model learns to answer with it."""

    text: str


@dataclass(frozen=True)
class Break:
    """What separates two texts; neighbouring texts and answers are one text without it."""


Item = str | Picture | Answer | Break


@dataclass(frozen=True, eq=False)
class Written:
    """A document."""

    items: tuple[Item, ...]
    task: str = ""
    """What it teaches; empty for plain data."""

    def pictures(self) -> tuple[UInt8[np.ndarray, "h w 3"], ...]:
        """Return its pictures in their order."""
        return tuple(item.values for item in self.items if isinstance(item, Picture))

    def text(self) -> str:
        """Return its texts with the answers in them, one a line."""
        lines = [""]
        for item in self.items:
            if isinstance(item, str | Answer):
                lines[-1] += item.text if isinstance(item, Answer) else item
            elif lines[-1]:
                lines.append("")
        return "\n".join(line for line in lines if line)


LINES = "documents.jsonl"
"""File of documents, one JSON object a line."""
PICTURES = "pictures"
"""Folder beside it with their pictures."""


def write_pairs(documents: Sequence[Written], folder: pathlib.Path) -> None:
    """Write documents of one text and one picture as files of one name: 0001.png and 0001.txt, and so on.

    Raises:
        UsageError: If a document has another form.
        InputError: If the folder is not empty, or the disk refuses.
    """
    check_empty(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in zip(_numbers(len(documents)), documents, strict=True):
            if len(document.pictures()) != 1 or "\n" in document.text():
                raise UsageError(f"expected one text and one picture, got document {name}; write it with others")
            (folder / f"{name}.png").write_bytes(png(document.pictures()[0]))
            (folder / f"{name}.txt").write_text(f"{document.text()}\n", "utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error


def write_documents(documents: Sequence[Written], folder: pathlib.Path) -> None:
    r"""Write documents as `documents.jsonl`, one object a line: `{"document": [item, ...], "task": "edit"}`.

    An item is a text, `{"image": "pictures/0001-1.png"}`, relative to the file, `{"answer": "red"}`, a text that is
    always hidden in training, or `{"break": true}` between two texts. Neighbouring texts and answers are one text.

    Raises:
        InputError: If the folder is not empty, or the disk refuses.
    """
    check_empty(folder)
    lines = []
    try:
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        for name, document in zip(_numbers(len(documents)), documents, strict=True):
            items = []
            for item in document.items:
                file = f"{PICTURES}/{name}-{1 + sum('image' in one for one in items if isinstance(one, dict))}.png"
                items.append(_noted(item, file))
                if isinstance(item, Picture):
                    (folder / file).write_bytes(png(item.values))
            task = {"task": document.task} if document.task else {}
            lines.append(json.dumps({"document": items, **task}, ensure_ascii=False))
        replace_file(folder / LINES, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise cannot_write(folder, error) from error


def png(values: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Return a picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def check_empty(folder: pathlib.Path) -> None:
    """Refuse a place where something is already.

    Raises:
        InputError: If it is a file, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already, and not empty; name a new folder")


def _noted(item: Item, file: str) -> str | dict[str, Any]:
    if isinstance(item, Picture):
        return {"image": file}
    if isinstance(item, Answer):
        return {"answer": item.text}
    return {"break": True} if isinstance(item, Break) else item


def _numbers(n: int) -> list[str]:
    """Return the names of n files, from 1: four digits, or as many as the last needs."""
    return [f"{i:0{max(4, len(str(n)))}}" for i in range(1, n + 1)]
