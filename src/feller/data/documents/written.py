"""Documents into files: JSON lines with their pictures beside them, and symbols as JSON."""

import json
import pathlib
from collections.abc import Sequence

from jaxtyping import UInt8
from torch import Tensor

from feller.core.serialization import replace_file
from feller.data.documents.files import ANSWER, BREAK, DOCUMENT, IMAGE, TASK
from feller.data.documents.vocabulary import Symbols
from feller.data.files import sample_folder
from feller.data.images.resize import picture
from feller.data.loading.raw import Item, Said, Shown

Plain = list[str | dict[str, str | bool]]
"""A document as JSON has it."""


def plain(items: Sequence[Item], files: Sequence[str] | None = None) -> Plain:
    """Return a document as JSON has it; its pictures are called as `files`, or by their numbers."""
    found: Plain = []
    for item in items:
        if isinstance(item, Said):
            found.append({ANSWER: item.text} if item.hidden else item.text)
        elif isinstance(item, Shown):
            found.append({IMAGE: f"{item.number}.png" if files is None else files[item.number]})
        else:
            found.append({BREAK: True})
    return found


def write_lines(
    documents: Sequence[Sequence[Item]],
    pictures: UInt8[Tensor, "n most c h w"],
    tokens: Sequence[Sequence[int]],
    tasks: Sequence[str],
    out: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    """Write one document a line, with its symbols, and its pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "" if folder == out.parent else f"{folder.name}/"
    counts = [sum(isinstance(item, Shown) for item in items) for items in documents]
    names, lines, first = sample_folder.numbers(sum(counts)), [], 0
    for i, items in enumerate(documents):
        files = [f"{name}.png" for name in names[first : first + counts[i]]]
        first += counts[i]
        for file, pixels in zip(files, pictures[i], strict=False):
            sample_folder.write_picture(picture(pixels.permute(1, 2, 0).numpy()), folder / file)
        entry = {DOCUMENT: plain(items, [f"{prefix}{file}" for file in files]), "tokens": list(tokens[i])}
        entry |= {TASK: tasks[i]} if tasks[i] else {}
        lines.append(f"{json.dumps(entry, ensure_ascii=False)}\n")
    replace_file(out, "".join(lines))


def to_json(tokens: Sequence[Sequence[int]], texts: Sequence[str], symbols: Symbols) -> str:
    """Return the symbols of documents, their words, and what the numbers mean."""
    meaning = {
        "text": [0, symbols.text],
        "pictures": [symbols.text, symbols.eos],
        "<eos>": symbols.eos,
        "<break>": symbols.cut,
        "<mask>": symbols.mask,
        "<infill>": symbols.infill,
    }
    return json.dumps({"tokens": tokens, "texts": texts, "symbols": meaning}, ensure_ascii=False)
