"""Small folders and files of documents."""

import json
import pathlib

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue")


def square(folder: pathlib.Path, name: str, colour: int, side: int = 8) -> pathlib.Path:
    """Draw a square of one colour on black."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[side // 4 : -side // 4, side // 4 : -side // 4, colour] = 255
    file = folder / name
    Image.fromarray(pixels).save(file)
    return file


def pairs(folder: pathlib.Path, n: int = 12, side: int = 8) -> pathlib.Path:
    """Write images with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        square(folder, f"{i:03}.png", i % 3, side)
        (folder / f"{i:03}.txt").write_text(f"a {COLOURS[i % 3]} square\n")
    return folder


def lines(folder: pathlib.Path, entries: list[object], name: str = "documents.jsonl") -> pathlib.Path:
    """Write one JSON object per line."""
    file = folder / name
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return file
