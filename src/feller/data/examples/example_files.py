"""Writing of example data: copies of an example's folder, and generated images with captions and instructions."""

import io
import json
import pathlib
import shutil
from typing import Any

import numpy as np
from PIL import Image

from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.serialization import replace_file
from feller.data.examples.loaders import EXAMPLES
from feller.data.files.numpy_files import load_arrays
from feller.data.files.sample_folder import tile

PAIRS, MIN_PAIRS = 8000, 20
"""Default number of image-text pairs of the scenes, and the smallest number that can be requested."""
MAX_OVERVIEW_IMAGES = 120
"""Maximum number of images in the overview image."""


def copy_example(name: str, out: pathlib.Path) -> int:
    """Copy the folder of an example to `out`, a new or empty folder, and return the number of files.

    UsageError if the example has no folder, or `out` is not empty.
    """
    folder = EXAMPLES[name].folder
    if folder is None:
        with_folder = ", ".join(example_name for example_name, example in EXAMPLES.items() if example.folder)
        raise UsageError(f"example:{name} has no folder; examples with a folder: {with_folder}")
    if _is_taken(out):
        raise UsageError("already exists", remedy="Choose a new folder", file=out)
    shutil.copytree(folder, out, dirs_exist_ok=True)
    return sum(path.is_file() for path in out.rglob("*"))


def write_scenes(out: pathlib.Path, n: int = PAIRS) -> dict[str, Any]:
    """Write images of coloured shapes and creatures (scenes) with captions or instructions, for models of documents.

    Return the number of documents in each folder.

    Image-text pairs are `0001.png` and `0001.txt`, and so on. Instructions are a folder of images and
    `documents.jsonl`, with one object per line: `{"document": [item, ...], "task": "edit"}`; an item is a text,
    `{"image": "pictures/0001-1.png"}` or `{"answer": "red"}`. `n` is the number of image-text pairs for training; the
    numbers of the other folders are proportional to it. UsageError if `n` is out of range; InputError if `out` is not
    empty, or cannot be written.
    """
    if not MIN_PAIRS <= n <= PAIRS:
        raise UsageError(f"{MIN_PAIRS} to {PAIRS} pairs", n)
    if _is_taken(out):
        raise InputError("already exists and is not empty", remedy="Choose a new folder", file=out)
    arrays = load_arrays(pathlib.Path(__file__).with_name("scenes.npz"))
    images = arrays["palette"][arrays["pixels"]]
    folders: dict[str, list[dict[str, Any]]] = {}
    for line in arrays["documents"].tobytes().decode().splitlines():
        record = json.loads(line)
        folders.setdefault(record["folder"], []).append(record)
    num_creatures = max(1, n // 80)
    counts = {"memory": 4 * num_creatures, "tail": 2 * num_creatures}  # views of each creature that are in no pair
    folders = {name: group[: counts.get(name, -(-len(group) * n // PAIRS))] for name, group in folders.items()}
    try:
        for name, records in folders.items():
            write = _write_instructions if name.startswith("instructions") else _write_pairs
            write(records, images, out / name)
        items = [
            item for records in folders.values() for doc in records[:MAX_OVERVIEW_IMAGES] for item in doc["document"]
        ]
        index = [item["image"] for item in items if isinstance(item, dict) and "image" in item]
        (out / "overview.png").write_bytes(_png(tile(images[index[:: max(1, len(index) // MAX_OVERVIEW_IMAGES)]])))
    except OSError as error:
        raise cannot_write(out, error) from error
    counts = {name: len(records) for name, records in folders.items()}
    creature_names = {doc["creature"] for doc in folders["pairs"] if "creature" in doc}
    return {"out": str(out), **counts, "creatures": len(creature_names), "creatures_of_the_tail": num_creatures}


def _write_pairs(records: list[dict[str, Any]], images: np.ndarray, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True)
    for i, record in enumerate(records, 1):
        text, image_item = record["document"]
        (folder / f"{i:04}.png").write_bytes(_png(images[image_item["image"]]))
        (folder / f"{i:04}.txt").write_text(f"{text}\n", "utf-8")


def _write_instructions(records: list[dict[str, Any]], images: np.ndarray, folder: pathlib.Path) -> None:
    (folder / "pictures").mkdir(parents=True)
    lines = []
    for i, record in enumerate(records, 1):
        items, image_number = [], 0
        for item in record["document"]:
            if isinstance(item, dict) and "image" in item:
                image_number += 1
                file = f"pictures/{i:04}-{image_number}.png"
                (folder / file).write_bytes(_png(images[item["image"]]))
                item = {"image": file}
            items.append(item)
        lines.append(json.dumps({"document": items, "task": record["task"]}, ensure_ascii=False))
    replace_file(folder / "documents.jsonl", "".join(f"{line}\n" for line in lines))


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


def _is_taken(folder: pathlib.Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
