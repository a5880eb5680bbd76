"""Folders of generated samples, recognised by the overview image `grid.png` with a mark of feller in its metadata."""

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
"""File name of the table of points in a sample folder."""
RUN = "model.json"
"""Name of a file that only run folders contain."""
PNG_KEY = "feller"
"""PNG text key that marks an overview written by feller."""
GAP = 2
MIN_SIDE = 48
"""Minimum side of an image in the overview, in pixels; smaller images are magnified."""
LETTER, ROOM = 12, 18
"""Font height of a caption, and height of the band that holds the caption, in pixels."""
SAMPLE_FILE_NAMES = re.compile(
    r"([^/]*[^/.][^/]*/)?\d{5,}\.(png|pdb|cif|xyz|wav|csv)|captions\.csv|samples\.(csv|txt|jsonl|npz)|sequences\.fasta"
)
"""Pattern of the file names of samples in a sample folder or in a class subfolder."""
_COUNT: contextvars.ContextVar[tuple[int, int]] = contextvars.ContextVar("count", default=(0, 0))
"""Index of the first sample to write, and total number of samples; (0, 0) if all samples are written at once."""


def tile(pictures: np.ndarray, columns: int | None = None) -> Image.Image:
    """Arrange images, uint8 [n, h, w, c], in a grid, row by row; small images are magnified by nearest neighbour."""
    n, height, width, channels = pictures.shape
    columns = columns or max(1, int(np.ceil(np.sqrt(n))))
    rows = -(-n // columns)
    factor = -(-MIN_SIDE // min(height, width)) if min(height, width) < MIN_SIDE else 1
    magnified = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    h, w = height * factor + GAP, width * factor + GAP
    canvas = np.full((rows * h + GAP, columns * w + GAP, channels), 128, dtype=np.uint8)
    for i, image in enumerate(magnified):
        top, left = GAP + i // columns * h, GAP + i % columns * w
        canvas[top : top + h - GAP, left : left + w - GAP] = image
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)


def add_captions(picture: Image.Image, names: list[str], columns: int | None = None) -> Image.Image:
    """Draw a caption below each panel of an image made by `tile`; long captions are shortened."""
    import matplotlib

    columns = columns or math.ceil(math.sqrt(len(names)))
    rows = -(-len(names) // columns)
    w, h = (picture.width - GAP) // columns, (picture.height - GAP) // rows
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", LETTER)
    white = (255,) * len(picture.getbands())
    captioned = Image.new(picture.mode, (picture.width, picture.height + rows * ROOM), white)
    draw = ImageDraw.Draw(captioned)
    for row in range(rows):
        band = (0, row * h, picture.width, (row + 1) * h + GAP)
        captioned.paste(picture.crop(band), (0, row * (h + ROOM)))
    for i, text in enumerate(names):
        while len(text) > 1 and font.getlength(text) > w:
            text = text.removesuffix("…")[:-1] + "…"
        centre = GAP + i % columns * w + (w - GAP) / 2, (i // columns + 1) * (h + ROOM) + GAP - ROOM / 2
        draw.text(centre, text, (0,) * len(picture.getbands()), font, anchor="mm")
    return captioned


def save_overview(image: Image.Image, folder: pathlib.Path, files: list[str]) -> None:
    """Write the overview image of a folder, with the sample file names as PNG metadata."""
    info = PngImagePlugin.PngInfo()
    info.add_text(PNG_KEY, json.dumps(files), zip=True)
    write_picture(image, folder / OVERVIEW_FILE, info)


def write_picture(image: Image.Image, path: pathlib.Path, info: PngImagePlugin.PngInfo | None = None) -> None:
    """Write a PNG atomically; an existing symbolic link is replaced, not followed."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    replace_file(path, buffer.getvalue())


@contextlib.contextmanager
def locked_folder(folder: pathlib.Path) -> Iterator[None]:
    """Within the context, hold an exclusive lock on a sample folder; a missing folder is created."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot lock folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _listed_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the paths of the samples that the overview picture of a folder lists in its metadata.

    Names that are not those of samples are left out, because the file may be untrusted.
    """
    with Image.open(folder / OVERVIEW_FILE, formats=("PNG",)) as image:
        text = image.info[PNG_KEY]
    try:
        names = [str(name) for name in json.loads(text)]
    except (ValueError, TypeError):
        return []
    return [folder / name for name in names if SAMPLE_FILE_NAMES.fullmatch(name)]


def is_overview(path: pathlib.Path) -> bool:
    """Return True if a file is an overview image written by feller."""
    if path.name != OVERVIEW_FILE or not path.is_file():
        return False
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return PNG_KEY in image.info
    except Exception:  # a damaged file is reported later, as any other image
        return False


def check_writable(folder: pathlib.Path) -> None:
    """Check that samples can be written to a folder; the folder is not changed.

    InputError if the folder contains files that are not samples, or links to folders; through these, samples would be
    written elsewhere.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if (folder / RUN).is_file():
        raise InputError(
            "is a run folder; samples cannot be written into it",
            remedy="Choose a new folder, or omit --out",
            file=folder,
        )
    if not is_overview(folder / OVERVIEW_FILE):
        raise InputError("is not empty and was not written by feller", remedy="Choose a new folder", file=folder)
    if folder.is_symlink():
        raise InputError("is a link to a folder that is not empty", remedy="Choose a new folder", file=folder)
    for path in folder.iterdir():
        if path.is_symlink() and path.is_dir():
            raise InputError("is a link to a folder", remedy="Remove the link, or choose a new folder", file=path)


def prepare(folder: pathlib.Path) -> None:
    """Create a folder, or remove feller's earlier samples from an existing folder; InputError if it has other files."""
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        return
    old_files = _listed_files(folder)
    for path in old_files:
        if not path.parent.is_symlink():
            path.unlink(missing_ok=True)
    for path in {path.parent for path in old_files} - {folder}:
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def save_files(image: Image.Image, folder: pathlib.Path, names: Sequence[str], contents: Iterable[str | bytes]) -> None:
    """Write an overview image and files to a new or reused sample folder; InputError if the folder has other files."""
    prepare(folder)
    save_overview(image, folder, [*names])
    for name, content in zip(names, contents, strict=True):
        replace_file(folder / name, content)


def save_table(image: Image.Image, folder: pathlib.Path, write: Callable[[pathlib.Path], None]) -> None:
    """Write an overview image and one table into a new or reused sample folder."""
    prepare(folder)
    save_overview(image, folder, [TABLE_FILE])
    write(folder / TABLE_FILE)


@contextlib.contextmanager
def sample_numbering(first: int, total: int) -> Iterator[None]:
    """Within the context, number the written samples from `first`, as part of a set of `total` samples."""
    token = _COUNT.set((first, total))
    try:
        yield
    finally:
        _COUNT.reset(token)


def first_number() -> int:
    """Return the index of the first sample to write in the current context; see `sample_numbering`."""
    return _COUNT.get()[0]


def numbered_names(n: int, ending: str = "") -> list[str]:
    """Return `n` numbered file names: the sample number with at least five digits, then the suffix `ending`."""
    first, total = _COUNT.get()
    digits = max(5, len(str(max(total, first + n) - 1)))
    return [f"{i:0{digits}}{ending}" for i in range(first, first + n)]


def folder_name(label: str) -> str:
    """Return a safe folder name for a class label; special characters are percent-encoded."""
    unsafe = r'[%/\\:*?"<>|\x00-\x1f]' if label not in (OVERVIEW_FILE, TABLE_FILE) else "."
    name = re.sub(rf"^[. _]|{unsafe}", lambda match: f"%{ord(match[0]):02X}", label)
    return name or "%"


def class_name(folder: str) -> str:
    """Return the class name encoded in a folder name: inverse of `folder_name`."""
    return re.sub(r"%([0-9A-F]{2})?", lambda match: chr(int(match[1], 16)) if match[1] else "", folder)
