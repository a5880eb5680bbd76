"""Document files: image folders with captions, and JSON lines; reading and writing."""

import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from feller.core.errors import InputError, error_context
from feller.core.serialization import replace_file
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.files import sample_folder
from feller.data.files.plain_text import beginning_of, json_lines, read_unicode
from feller.data.images.image_loading import ENDINGS, read_images
from feller.data.images.image_resizing import from_pixels
from feller.data.labels import abbreviated
from feller.data.loading.raw import BreakItem, ImageItem, Item, RawDocuments, TextItem, object_array
from feller.data.path_checks import is_outside, walk_files
from feller.data.text.vocabulary import check_encodable

MAX_SIDE = 32
"""Default maximum of the longer image side, in pixels; larger images are downscaled."""
DOCUMENT, IMAGE, TEXT, ANSWER, BREAK, TASK = "document", "image", "text", "answer", "break", "task"
"""JSON keys of the objects in a JSON Lines file of documents."""
CAPTION = ".txt"
NO_PICTURE = f"no document has an image; to read texts alone, write lines with {TEXT!r} and without {DOCUMENT!r}"


def holds_documents(path: pathlib.Path) -> bool:
    """Return True if the first line of a JSON Lines file is a document."""
    first = next((line for line in beginning_of(path).split("\n") if line.strip()), "")
    return f'"{DOCUMENT}"' in first or f'"{IMAGE}"' in first


def holds_symbols(path: pathlib.Path) -> bool:
    """Return True if a JSON file holds document tokens, as written by `to_json`."""
    return beginning_of(path).lstrip().startswith('{"tokens"')


def holds_pairs(folder: pathlib.Path) -> bool:
    """Return True if a folder holds an image and a caption of the same name."""
    images, captions = _inside(folder.iterdir())
    return bool({path.stem for path in images} & {path.stem for path in captions})


def load_captioned_images(folder: pathlib.Path, size: int | None, limit: int | None) -> RawDocuments:
    """Read images and their captions, which are text files of the same name; in a document the caption comes first.

    Args:
        folder: Folder with images and text files.
        size: Longer side of the resized images, in pixels; None keeps the size of images up to `limit`.
        limit: Maximum of the longer image side, in pixels, but at most `MAX_SIDE`; None for no limit.

    Subfolders with captions are included; other subfolders are skipped with a note.

    Raises:
        InputError: If an image or caption has no counterpart, names repeat, or a file is unreadable.
    """
    files, skipped = _captioned(folder)
    images, captions = (_by_name(group, folder) for group in _inside(files))
    for description, paths in (("image", images), ("caption", captions)):
        for file in paths.values():
            if file.is_symlink() and is_outside(file, folder):
                raise InputError(
                    f"the {description} {file.name!r} is a link to a file outside {folder}",
                    remedy="Put the file into the folder",
                )
    for group, counterparts, description, remedy in (
        (images, captions, "images have no caption", f"Write the caption to a {CAPTION} file of the same name"),
        (captions, images, "captions have no image", "Add the image"),
    ):
        unmatched = sorted(group.keys() - counterparts.keys())
        if unmatched:
            first = group[unmatched[0]].relative_to(folder)
            raise InputError(
                f"{len(unmatched)} of {len(group)} {description}, such as {first}. {remedy}, or remove it", file=folder
            )
    names = sorted(images)
    documents, image_names = [], []
    for i, name in enumerate(names):
        with error_context(captions[name]):
            text = check_encodable(read_unicode(captions[name]).strip())
            if not text:
                raise InputError("the caption is empty", remedy="Write a caption, or remove the caption with its image")
        documents.append((TextItem(text), ImageItem(i)))
        image_names.append(images[name].relative_to(folder).as_posix())
    values, notes = read_images([images[name] for name in names], size, limit and min(limit, MAX_SIDE))
    note = (f"left out the folders inside where no picture has a caption ({len(skipped):,}): {abbreviated(skipped)}",)
    notes = (*(note if skipped else ()), *notes)
    return RawDocuments(object_array(documents), notes=notes, names=tuple(image_names), images=values)


def load_json_documents(path: pathlib.Path, size: int | None, limit: int | None) -> RawDocuments:
    """Read documents from JSON Lines; a line has the key `document`, a list of items, or the keys `image` and `text`.

    Args:
        path: JSON Lines file.
        size: Longer side of the resized images, in pixels; None keeps the size of images up to `limit`.
        limit: Maximum of the longer image side, in pixels, but at most `MAX_SIDE`; None for no limit.

    Image paths are relative to the folder of the file, and must resolve to files inside it.

    Raises:
        InputError: If a line is not a document, or an image is missing or unreadable.
    """
    documents, line_numbers, tasks = [], [], []
    files: dict[pathlib.Path, int] = {}

    def image_index(name: str) -> int:
        return files.setdefault(_picture(name, path.parent), len(files))

    for line_number, entry in json_lines(path, "a JSON object"):
        with error_context(f"{path}: line {line_number}"):
            _check_entry(entry)
            documents.append(tuple(items_of(entry, image_index)))
            tasks.append(_task(entry))
        line_numbers.append(line_number)
    if not documents:
        raise InputError("documents", "none", file=path)
    if not files:
        raise InputError(NO_PICTURE, file=path)
    num_tagged = sum(task != "" for task in tasks)
    if 0 < num_tagged < len(tasks):
        untagged_line = line_numbers[tasks.index("")]
        raise InputError(
            f"a {TASK} on every line, or on none",
            f"none on line {untagged_line}, and {num_tagged} on other lines",
            "Add the key to all lines, or remove it from all lines",
            file=path,
        )
    values, notes = read_images([*files], size, limit and min(limit, MAX_SIDE))
    return RawDocuments(
        object_array(documents),
        notes=notes,
        lines=np.array(line_numbers),
        images=values,
        tasks=tuple(tasks) if num_tagged else (),
    )


def _captioned(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """Return the files of a folder, and of its subfolders with captioned images.

    The second result names the other subfolders that have images or texts.
    """
    children = dict.fromkeys(path.parent for path in walk_files(folder) if path.parent != folder)
    with_captions = [child for child in children if holds_pairs(child)]
    uncaptioned = [child for child in children if child not in with_captions and any(_inside(child.iterdir()))]
    files = [path for child in (folder, *with_captions) for path in child.iterdir()]
    return files, [child.relative_to(folder).as_posix() for child in uncaptioned]


def _inside(files: Iterable[pathlib.Path]) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Return the images and the text files among `files`; hidden files and feller's overview pictures are left out."""
    visible_files = [path for path in sorted(files) if path.is_file() and not path.name.startswith(".")]
    visible_files = [path for path in visible_files if not sample_folder.is_overview(path)]
    images = [path for path in visible_files if path.suffix.lower() in ENDINGS]
    return images, [path for path in visible_files if path.suffix.lower() == CAPTION]


def _by_name(files: list[pathlib.Path], folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Map each file's path in the folder, without suffix, to the file; InputError if two files have the same path."""
    paths: dict[str, pathlib.Path] = {}
    for file in files:
        first = paths.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
        if first is not file:
            raise InputError(
                "file names that differ without their suffixes",
                f"{first.name} and {file.name}",
                "Rename or remove one",
                file=folder,
            )
    return paths


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict) or not (DOCUMENT in entry or IMAGE in entry):
        preview = json.dumps(entry)[:40]
        raise InputError(f"an object with {DOCUMENT!r}, or with {IMAGE!r} and {TEXT!r}", repr(preview))
    if DOCUMENT in entry and (IMAGE in entry or TEXT in entry):
        raise InputError(f"{DOCUMENT!r} alone, or {IMAGE!r} and {TEXT!r}", "both", "Put all parts into the list")
    if DOCUMENT not in entry and not (isinstance(entry.get(TEXT), str) and entry[TEXT].strip()):
        raise InputError(f"{TEXT!r} for the image {entry[IMAGE]!r}", "none", "Write its caption, or remove the line")


def items_of(entry: dict[str, Any], image_number: Callable[[str], int]) -> Iterator[Item]:
    """Yield the items of a document; `image_number` maps an image name to its index.

    Raises:
        InputError: If there are no items, or an item is invalid.
    """
    raw_items = entry.get(DOCUMENT, [entry.get(TEXT), {IMAGE: entry.get(IMAGE)}])
    if not isinstance(raw_items, list) or not raw_items:
        raise InputError(f"a list of texts and images in {DOCUMENT!r}", repr(str(raw_items)[:40]))
    for raw_item in raw_items:
        if isinstance(raw_item, str):
            yield TextItem(check_encodable(raw_item))
        elif isinstance(raw_item, dict) and isinstance(raw_item.get(IMAGE), str):
            yield ImageItem(image_number(raw_item[IMAGE]))
        elif isinstance(raw_item, dict) and isinstance(raw_item.get(ANSWER), str) and raw_item[ANSWER]:
            yield TextItem(check_encodable(raw_item[ANSWER]), is_answer=True)
        elif raw_item == {BREAK: True}:
            yield BreakItem()
        else:
            raise InputError(f"a text, or an object with {IMAGE!r}, {ANSWER!r} or {BREAK!r}", json.dumps(raw_item)[:40])


def _picture(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Return the path of an image, which must resolve to a file inside the folder (the data are untrusted)."""
    file = folder / name
    try:
        outside, exists = is_outside(file, folder), file.is_file()
    except (OSError, ValueError) as error:  # the name is too long, or contains a null byte
        raise InputError("the file name of an image", f"{name[:40]!r}") from error
    if outside:
        raise InputError(f"an image inside {folder}", f"{name!r}", "Move the image into this folder")
    if not exists:
        raise InputError(f"the image {file}", "no such file", "Add the image, or remove the line")
    if file.suffix.lower() not in ENDINGS:
        raise InputError(f"an image ({', '.join(ENDINGS)})", f"the suffix {file.suffix!r}", file=file)
    return file


def _task(entry: dict[str, Any]) -> str:
    task = entry.get(TASK, "")
    if not isinstance(task, str):
        raise InputError(f"a string in {TASK!r}", repr(str(task)[:40]))
    return task


JsonDocument = list[str | dict[str, str | bool]]
"""Document in JSON form, as in a line of a JSON Lines file."""


def to_json_document(items: Sequence[Item], files: Sequence[str] | None = None) -> JsonDocument:
    """Convert the items of a document to JSON form; `files` holds the image names, by default 0.png, 1.png, ..."""
    document: JsonDocument = []
    for item in items:
        if isinstance(item, TextItem):
            document.append({ANSWER: item.text} if item.is_answer else item.text)
        elif isinstance(item, ImageItem):
            document.append({IMAGE: f"{item.number}.png" if files is None else files[item.number]})
        else:
            document.append({BREAK: True})
    return document


def write_lines(
    documents: Sequence[Sequence[Item]],
    pictures: UInt8[Tensor, "n most c h w"],
    tokens: Sequence[Sequence[int]],
    tasks: Sequence[str],
    out: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    """Write documents as JSON lines to `out`, and their images into `folder`.

    Args:
        documents: Items of each document.
        pictures: Images of each document in reading order, zero-padded.
        tokens: Token ids of each document, which its line also holds.
        tasks: Name of the task of each document; empty if it has none.
        out: JSON Lines file to write.
        folder: Folder for the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "" if folder == out.parent else f"{folder.name}/"
    counts = [sum(isinstance(item, ImageItem) for item in items) for items in documents]
    names, lines, start = sample_folder.numbered_names(sum(counts)), [], 0
    for i, items in enumerate(documents):
        files = [f"{name}.png" for name in names[start : start + counts[i]]]
        start += counts[i]
        for file, pixels in zip(files, pictures[i], strict=False):
            sample_folder.write_picture(from_pixels(pixels.permute(1, 2, 0).numpy()), folder / file)
        entry = {DOCUMENT: to_json_document(items, [f"{prefix}{file}" for file in files]), "tokens": list(tokens[i])}
        entry |= {TASK: tasks[i]} if tasks[i] else {}
        lines.append(f"{json.dumps(entry, ensure_ascii=False)}\n")
    replace_file(out, "".join(lines))


def to_json(tokens: Sequence[Sequence[int]], texts: Sequence[str], symbols: DocumentVocabulary) -> str:
    """Return the tokens and texts of documents as JSON, with an explanation of the token ids."""
    legend = {
        "text": [0, symbols.text],
        "pictures": [symbols.text, symbols.eos],
        "<eos>": symbols.eos,
        "<break>": symbols.break_token,
        "<mask>": symbols.mask,
        "<infill>": symbols.infill,
    }
    return json.dumps({"tokens": tokens, "texts": texts, "symbols": legend}, ensure_ascii=False)
