"""Files of documents: image folders with captions, JSON lines; read and write."""

import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.files import sample_folder
from feller.data.files.plain_text import beginning_of, json_lines, read_unicode
from feller.data.images.image_loading import ENDINGS, read_images
from feller.data.images.image_resizing import from_pixels
from feller.data.labels import abbreviated
from feller.data.loading.raw import BreakItem, ImageItem, Item, RawDocuments, TextItem, error_context, object_array
from feller.data.path_checks import is_outside, walk_files
from feller.data.text.vocabulary import check_encodable

MAX_SIDE = 32
"""Longer side, in pixels, above which pictures are made smaller unless a size is asked for."""
DOCUMENT, IMAGE, TEXT, ANSWER, BREAK, TASK = "document", "image", "text", "answer", "break", "task"
"""Keys of JSON lines."""
CAPTION = ".txt"
NO_PICTURE = f"no document has a picture; texts alone are lines with {TEXT!r} and no {DOCUMENT!r}"


def holds_documents(path: pathlib.Path) -> bool:
    """Tell whether the first of JSON lines is a document."""
    first = next((line for line in beginning_of(path).split("\n") if line.strip()), "")
    return f'"{DOCUMENT}"' in first or f'"{IMAGE}"' in first


def holds_symbols(path: pathlib.Path) -> bool:
    """Tell whether JSON is rows of symbols of documents, as a model of them writes."""
    return beginning_of(path).lstrip().startswith('{"tokens"')


def holds_pairs(folder: pathlib.Path) -> bool:
    """Tell whether a folder holds pictures, and a text with the name of one of them."""
    pictures, captions = _inside(folder.iterdir())
    return bool({path.stem for path in pictures} & {path.stem for path in captions})


def load_captioned_images(folder: pathlib.Path, size: int | None, limit: int | None) -> RawDocuments:
    """Read pictures, each with the text of the same name beside it: the caption comes first.

    Those of folders inside are read, too, but for folders without captions, which are told.

    Raises:
        InputError: If a picture has no caption, a caption no picture, two of either have one name, or a file cannot be
            read, or is a link to outside.
    """
    files, bare = _captioned(folder)
    pictures, captions = (_by_name(some, folder) for some in _inside(files))
    for what, found in (("picture", pictures), ("caption", captions)):
        for file in found.values():
            if file.is_symlink() and is_outside(file, folder):
                raise InputError(
                    f"the {what} {file.name!r} is a link that leads outside {folder}", remedy="Put the file there"
                )
    for some, others, what, lack in (
        (pictures, captions, "pictures have no caption", f"write {CAPTION} beside it"),
        (captions, pictures, "captions have no picture", "add it"),
    ):
        alone = sorted(some.keys() - others.keys())
        if alone:
            first = some[alone[0]].relative_to(folder)
            raise InputError(f"{len(alone)} of {len(some)} {what}, first {first}; {lack}, or remove it", file=folder)
    names = sorted(pictures)
    documents, lines = [], []
    for i, name in enumerate(names):
        with error_context(captions[name]):
            text = check_encodable(read_unicode(captions[name]).strip())
            if not text:
                raise InputError("the caption is empty", remedy="Write one, or remove it with its picture")
        documents.append((TextItem(text), ImageItem(i)))
        lines.append(pictures[name].relative_to(folder).as_posix())
    values, notes = read_images([pictures[name] for name in names], size, limit and min(limit, MAX_SIDE))
    left = (f"left out the folders inside where no picture has a caption ({len(bare):,}): {abbreviated(bare)}",)
    notes = (*(left if bare else ()), *notes)
    return RawDocuments(object_array(documents), notes=notes, names=tuple(lines), images=values)


def load_json_documents(path: pathlib.Path, size: int | None, limit: int | None) -> RawDocuments:
    """Read documents, one a line: texts, pictures and answers listed under `document`, or one `image` and its `text`.

    Pictures are named from the folder of the file, and lie in it; so does what they are links to.

    Raises:
        InputError: If a line is of another kind, names a picture that is not there, or one cannot be read.
    """
    documents, lines, tasks = [], [], []
    files: dict[pathlib.Path, int] = {}

    def numbered(name: str) -> int:
        return files.setdefault(_picture(name, path.parent), len(files))

    for number, entry in json_lines(path, "a JSON object"):
        with error_context(f"{path}: line {number}"):
            _check_entry(entry)
            documents.append(tuple(items_of(entry, numbered)))
            tasks.append(_task(entry))
        lines.append(number)
    if not documents:
        raise InputError("the file holds no document", file=path)
    if not files:
        raise InputError(NO_PICTURE, file=path)
    named = sum(task != "" for task in tasks)
    if 0 < named < len(tasks):
        bare = lines[tasks.index("")]
        raise InputError(
            f"line {bare} names no {TASK}, and {named} others do", remedy="Add it, or drop all of them", file=path
        )
    values, notes = read_images([*files], size, limit and min(limit, MAX_SIDE))
    return RawDocuments(
        object_array(documents), notes=notes, lines=np.array(lines), images=values, tasks=tuple(tasks) if named else ()
    )


def _captioned(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """Return the files of a folder and of those inside with captions, and the names of those where nothing pairs."""
    places = dict.fromkeys(path.parent for path in walk_files(folder) if path.parent != folder)
    with_captions = [place for place in places if holds_pairs(place)]
    bare = [place for place in places if place not in with_captions and any(_inside(place.iterdir()))]
    files = [path for place in (folder, *with_captions) for path in place.iterdir()]
    return files, [place.relative_to(folder).as_posix() for place in bare]


def _inside(files: Iterable[pathlib.Path]) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Return the pictures and the texts among files."""
    there = [path for path in sorted(files) if path.is_file() and not path.name.startswith(".")]
    there = [path for path in there if not sample_folder.is_overview(path)]
    pictures = [path for path in there if path.suffix.lower() in ENDINGS]
    return pictures, [path for path in there if path.suffix.lower() == CAPTION]


def _by_name(files: list[pathlib.Path], folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return files by their names in a folder, without ending."""
    named: dict[str, pathlib.Path] = {}
    for file in files:
        other = named.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
        if other is not file:
            raise InputError(
                f"{other.name} and {file.name} have one name", remedy="Rename or remove one of them", file=folder
            )
    return named


def _check_entry(entry: Any) -> None:
    """Refuse the object of a line that is no document."""
    if not isinstance(entry, dict) or not (DOCUMENT in entry or IMAGE in entry):
        got = json.dumps(entry)[:40]
        raise InputError(f"an object with {DOCUMENT!r}, or with {IMAGE!r} and {TEXT!r}", repr(got))
    if DOCUMENT in entry and (IMAGE in entry or TEXT in entry):
        raise InputError(f"{DOCUMENT!r} alone, or {IMAGE!r} and {TEXT!r}", "both", "Put all into the list")
    if DOCUMENT not in entry and not (isinstance(entry.get(TEXT), str) and entry[TEXT].strip()):
        raise InputError(
            f"the picture {entry[IMAGE]!r} has no {TEXT!r}", remedy="Write its caption, or remove the line"
        )


def items_of(entry: dict[str, Any], image_number: Callable[[str], int]) -> Iterator[Item]:
    """Yield the items of a document, of which `image_number` tells the number of a picture by its name.

    Raises:
        InputError: If there are none, or one of another kind.
    """
    parts = entry.get(DOCUMENT, [entry.get(TEXT), {IMAGE: entry.get(IMAGE)}])
    if not isinstance(parts, list) or not parts:
        raise InputError(f"a list under {DOCUMENT!r}, of texts and pictures", repr(str(parts)[:40]))
    for part in parts:
        if isinstance(part, str):
            yield TextItem(check_encodable(part))
        elif isinstance(part, dict) and isinstance(part.get(IMAGE), str):
            yield ImageItem(image_number(part[IMAGE]))
        elif isinstance(part, dict) and isinstance(part.get(ANSWER), str) and part[ANSWER]:
            yield TextItem(check_encodable(part[ANSWER]), is_answer=True)
        elif part == {BREAK: True}:
            yield BreakItem()
        else:
            raise InputError(f"a text, or an object with {IMAGE!r}, {ANSWER!r} or {BREAK!r}", json.dumps(part)[:40])


def _picture(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Return the file of a picture, which must lie in the folder: a file from a stranger names no other."""
    file = folder / name
    try:
        outside, is_there = is_outside(file, folder), file.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero
        raise InputError(f"no file can be called {name[:40]!r}; expected the name of a picture") from error
    if outside:
        raise InputError(f"the picture {name!r} lies outside {folder}", remedy="Move it there")
    if not is_there:
        raise InputError(f"there is no picture {file}", remedy="Bring it, or remove the line")
    if file.suffix.lower() not in ENDINGS:
        raise InputError(f"is no picture by its ending; expected {', '.join(ENDINGS)}", file=file)
    return file


def _task(entry: dict[str, Any]) -> str:
    task = entry.get(TASK, "")
    if not isinstance(task, str):
        raise InputError(f"a word under {TASK!r}", repr(str(task)[:40]))
    return task


JsonDocument = list[str | dict[str, str | bool]]
"""A document as JSON has it."""


def to_json_document(items: Sequence[Item], files: Sequence[str] | None = None) -> JsonDocument:
    """Return a document as JSON has it; its pictures are called as `files`, or by their numbers."""
    found: JsonDocument = []
    for item in items:
        if isinstance(item, TextItem):
            found.append({ANSWER: item.text} if item.is_answer else item.text)
        elif isinstance(item, ImageItem):
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
    counts = [sum(isinstance(item, ImageItem) for item in items) for items in documents]
    names, lines, first = sample_folder.numbered_names(sum(counts)), [], 0
    for i, items in enumerate(documents):
        files = [f"{name}.png" for name in names[first : first + counts[i]]]
        first += counts[i]
        for file, pixels in zip(files, pictures[i], strict=False):
            sample_folder.write_picture(from_pixels(pixels.permute(1, 2, 0).numpy()), folder / file)
        entry = {DOCUMENT: to_json_document(items, [f"{prefix}{file}" for file in files]), "tokens": list(tokens[i])}
        entry |= {TASK: tasks[i]} if tasks[i] else {}
        lines.append(f"{json.dumps(entry, ensure_ascii=False)}\n")
    replace_file(out, "".join(lines))


def to_json(tokens: Sequence[Sequence[int]], texts: Sequence[str], symbols: DocumentVocabulary) -> str:
    """Return the symbols of documents, their words, and what the numbers mean."""
    meaning = {
        "text": [0, symbols.text],
        "pictures": [symbols.text, symbols.eos],
        "<eos>": symbols.eos,
        "<break>": symbols.break_token,
        "<mask>": symbols.mask,
        "<infill>": symbols.infill,
    }
    return json.dumps({"tokens": tokens, "texts": texts, "symbols": meaning}, ensure_ascii=False)
