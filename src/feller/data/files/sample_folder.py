"""The folder that samples are written to, known by the marked picture of all of them, `grid.png`."""

import contextlib
import contextvars
import fcntl
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from feller.core.errors import InputError
from feller.core.serialization import replace_file

OVERVIEW_FILE = "grid.png"
TABLE_FILE = "samples.csv"
"""Table of points in such a folder."""
RUN = "model.json"
"""What only the folder of a run holds."""
PNG_KEY = "feller"
"""Key of the text in a PNG that tells our overview from a picture that happens to be called grid."""
GAP = 2
MIN_SIDE = 48
"""Pixels a side, at least, to which a small picture is magnified."""
LETTER, ROOM = 12, 18
"""Height of the letters of a name, and of the band that it stands in, in pixels."""
SAMPLE_FILE_NAMES = re.compile(
    r"([^/]*[^/.][^/]*/)?\d{5,}\.(png|pdb|cif|xyz|wav|csv)|samples\.(csv|txt|jsonl|npz)|sequences\.fasta"
)
"""Names of files that we write into such a folder, or into that of a class."""
_COUNT: contextvars.ContextVar[tuple[int, int]] = contextvars.ContextVar("count", default=(0, 0))
"""Number of the first sample that is written, and how many there are in all; none where these are all."""


def tile(pictures: np.ndarray, columns: int | None = None) -> Image.Image:
    """Lay out pictures, uint8 [n, h, w, c], row by row, magnified without blur."""
    n, height, width, channels = pictures.shape
    columns = columns or max(1, int(np.ceil(np.sqrt(n))))
    rows = -(-n // columns)
    factor = -(-MIN_SIDE // min(height, width)) if min(height, width) < MIN_SIDE else 1
    large = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    h, w = height * factor + GAP, width * factor + GAP
    canvas = np.full((rows * h + GAP, columns * w + GAP, channels), 128, dtype=np.uint8)
    for i, picture in enumerate(large):
        top, left = GAP + i // columns * h, GAP + i % columns * w
        canvas[top : top + h - GAP, left : left + w - GAP] = picture
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)


def add_captions(picture: Image.Image, names: list[str], columns: int | None = None) -> Image.Image:
    """Write a name below each panel of what `tile` laid out, as much of it as there is room for."""
    import matplotlib

    columns = columns or math.ceil(math.sqrt(len(names)))
    rows = -(-len(names) // columns)
    w, h = (picture.width - GAP) // columns, (picture.height - GAP) // rows
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", LETTER)
    white = (255,) * len(picture.getbands())
    named = Image.new(picture.mode, (picture.width, picture.height + rows * ROOM), white)
    draw = ImageDraw.Draw(named)
    for row in range(rows):
        band = (0, row * h, picture.width, (row + 1) * h + GAP)
        named.paste(picture.crop(band), (0, row * (h + ROOM)))
    for i, text in enumerate(names):
        while len(text) > 1 and font.getlength(text) > w:
            text = text.removesuffix("…")[:-1] + "…"
        centre = GAP + i % columns * w + (w - GAP) / 2, (i // columns + 1) * (h + ROOM) + GAP - ROOM / 2
        draw.text(centre, text, (0,) * len(picture.getbands()), font, anchor="mm")
    return named


def save_overview(image: Image.Image, folder: pathlib.Path, files: list[str]) -> None:
    """Write the overview of a folder, which holds the names of the files that belong to it."""
    info = PngImagePlugin.PngInfo()
    info.add_text(PNG_KEY, json.dumps(files), zip=True)
    write_picture(image, folder / OVERVIEW_FILE, info)


def write_picture(image: Image.Image, path: pathlib.Path, info: PngImagePlugin.PngInfo | None = None) -> None:
    """Write a PNG, whole or not at all; a link that is there is replaced, and not followed."""
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=info)
    replace_file(path, file.getvalue())


@contextlib.contextmanager
def locked_folder(folder: pathlib.Path) -> Iterator[None]:
    """Wait until nobody else writes samples into a folder, which is made, and keep others waiting meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some file systems of a network lock no folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _listed_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that an overview names, where they can be ours: it may come from a stranger."""
    with Image.open(folder / OVERVIEW_FILE, formats=("PNG",)) as image:
        text = image.info[PNG_KEY]
    try:
        names = [str(name) for name in json.loads(text)]
    except (ValueError, TypeError):
        return []
    return [folder / name for name in names if SAMPLE_FILE_NAMES.fullmatch(name)]


def is_overview(path: pathlib.Path) -> bool:
    """Tell whether a file is an overview that feller wrote."""
    if path.name != OVERVIEW_FILE or not path.is_file():
        return False
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return PNG_KEY in image.info
    except Exception:  # damaged: then it is a picture like others, and will be reported as such
        return False


def check_writable(folder: pathlib.Path) -> None:
    """Refuse a folder that samples may not go to; nothing is made or removed.

    InputError if it holds other things, or links to folders, through which samples would go elsewhere.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if (folder / RUN).is_file():
        raise InputError(
            "is a run, which samples would spoil", remedy="Name a new folder, or leave --out away", file=folder
        )
    if not is_overview(folder / OVERVIEW_FILE):
        raise InputError("is not empty and was not written by feller", remedy="Name a new folder", file=folder)
    if folder.is_symlink():
        raise InputError("is a link to a folder that is not empty", remedy="Name a new folder", file=folder)
    for path in folder.iterdir():
        if path.is_symlink() and path.is_dir():
            raise InputError("is a link to a folder", remedy="Remove it, or name a new folder", file=path)


def prepare(folder: pathlib.Path) -> None:
    """Make a folder, or remove the samples that feller wrote there before, and nothing else.

    InputError if it holds other things.
    """
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        return
    listed = _listed_files(folder)
    for path in listed:
        if not path.parent.is_symlink():
            path.unlink(missing_ok=True)
    for path in {path.parent for path in listed} - {folder}:
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def save_files(image: Image.Image, folder: pathlib.Path, names: Sequence[str], contents: Iterable[str | bytes]) -> None:
    """Make a folder, or use it again, with a picture of examples and files; InputError if it holds other things."""
    prepare(folder)
    save_overview(image, folder, [*names])
    for name, content in zip(names, contents, strict=True):
        replace_file(folder / name, content)


def save_table(image: Image.Image, folder: pathlib.Path, write: Callable[[pathlib.Path], None]) -> None:
    """Make a folder, or use it again, with a picture of examples and the one table of them."""
    prepare(folder)
    save_overview(image, folder, [TABLE_FILE])
    write(folder / TABLE_FILE)


@contextlib.contextmanager
def sample_numbering(first: int, total: int) -> Iterator[None]:
    """Write samples as a part of more: number them from the first, with room for all."""
    before = _COUNT.set((first, total))
    try:
        yield
    finally:
        _COUNT.reset(before)


def first_number() -> int:
    """Return the number of the first sample that is written."""
    return _COUNT.get()[0]


def numbered_names(n: int, ending: str = "") -> list[str]:
    """Return the names of n files: five digits, or as many as the last needs, and the ending."""
    begin, total = _COUNT.get()
    digits = max(5, len(str(max(total, begin + n) - 1)))
    return [f"{i:0{digits}}{ending}" for i in range(begin, begin + n)]


def folder_name(label: str) -> str:
    """Turn the name of a class into that of a folder, whatever it contains."""
    odd = r'[%/\\:*?"<>|\x00-\x1f]' if label not in (OVERVIEW_FILE, TABLE_FILE) else "."
    name = re.sub(rf"^[. _]|{odd}", lambda match: f"%{ord(match[0]):02X}", label)
    return name or "%"


def class_name(folder: str) -> str:
    """Return the name of the class that a folder was written for."""
    return re.sub(r"%([0-9A-F]{2})?", lambda match: chr(int(match[1], 16)) if match[1] else "", folder)
