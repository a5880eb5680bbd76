"""Loading of images of any format, colour mode and size into one array."""

import contextlib
import importlib.util
import io
import itertools
import os
import pathlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from feller.core.errors import InputError, message_of
from feller.core.optional_dependency import require_package
from feller.data.files import sample_folder
from feller.data.files.delimited import Sheet, read_sheet
from feller.data.files.plain_text import read_unicode
from feller.data.images.image_resizing import (
    Size,
    common_size,
    crop_and_resize,
    from_pixels,
    resize_notes,
    target_size,
    to_pixels,
)
from feller.data.labels import abbreviated
from feller.data.loading.class_folders import CAPTIONS_FILE, DEFAULT_FOLDERS, FolderOptions, list_class_folders
from feller.data.loading.raw import RawImages
from feller.data.path_checks import is_outside

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
HEIC = (".heic", ".heif")
"""Suffixes of HEIC images, which need the package pillow-heif (extra `heic`)."""
HEIC_REASON = "HEIC images, which need pillow-heif: pip install 'feller[heic]'"
"""Why HEIC images are left out, if the package is not installed."""
GRAY = ("L", "1", "LA", "I", "F")
CLEAR = ("RGBA", "LA", "PA")
FINER = 4
"""A JPEG whose shorter side is more than this multiple of the target size is decoded at a reduced resolution, which is
at least this multiple of the target size."""
FIRST, READ_BATCH = 32, 1024
"""Number of first images from which the common size is guessed, and number of images that are read in parallel."""
THREADS = min(8, os.cpu_count() or 1)
Answer = TypeVar("Answer")


class ImageInfo(NamedTuple):
    """Image header: size, colour mode, whether it has colour, and number of frames."""

    size: Size
    """Width and height in pixels, after the rotation given by EXIF."""
    mode: str
    colour: bool
    frames: int
    is_deep: bool
    """True for 16 bits per channel, of which 8 are kept."""


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """Encoded image that is embedded in another file."""

    content: bytes
    name: Callable[[], str]
    """Function that returns a name of the image's source, for error messages."""

    def __str__(self) -> str:
        return self.name()


ImageSource = pathlib.Path | EncodedImage


def image_info(image: Image.Image) -> ImageInfo:
    """Return the header of an image: size, colour mode, whether it has colour, and number of frames."""
    tiles: Any = getattr(image, "tile", None)
    raw_mode = str(tiles[0][3]) if tiles else ""  # the layout in the file, before it is decoded
    is_rotated = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientation: lying on its side
    colour = image.mode not in GRAY and not image.mode.startswith("I;16")
    if image.mode in ("P", "PA"):
        image.load()
        palette = np.array(image.getpalette("RGB") or [0]).reshape(-1, 3)
        colour = bool((palette != palette[:, :1]).any())
    is_deep = image.mode.startswith("I") or ";16" in raw_mode
    size = image.size[::-1] if is_rotated else image.size
    return ImageInfo(size, image.mode, colour, getattr(image, "n_frames", 1), is_deep)


def _load(image: Image.Image, size: Size) -> tuple[ImageInfo, np.ndarray]:
    """Read an image with EXIF rotation, transparency on white, cropped and resized; [h, w, 1] if it has no colour."""
    info = image_info(image)
    if image.format == "JPEG" and min(image.size) > FINER * max(size):
        image.draft(None, (FINER * max(size), FINER * max(size)))  # decode at a reduced resolution
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("expected 8 or 16 bits per pixel")
        image = Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("expected 8 or 16 bits per pixel; found floating-point pixels")
    elif image.mode in CLEAR or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    mode = "RGB" if info.colour else "L"
    return info, to_pixels(crop_and_resize(image.convert("RGB").convert(mode) if image.mode != mode else image, size))


HUGE = f"it has more than {(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels"
"""Error text of an image that would fill the memory."""
UNIDENTIFIED = "no image of a known format, or damaged"
"""Error text of a file that Pillow does not recognise."""


def readable_formats() -> tuple[str, ...]:
    """Return the names of the formats that Pillow may open, with HEIF if pillow-heif is installed."""
    if not has_heic():
        return FORMATS
    importlib.import_module("pillow_heif").register_heif_opener()
    return (*FORMATS, "HEIF")


def has_heic() -> bool:
    """Return True if HEIC images can be read."""
    return importlib.util.find_spec("pillow_heif") is not None


def _map_images(files: Iterable[ImageSource], function: Callable[[Image.Image], Answer]) -> Iterator[Answer | str]:
    """Apply a function to images in parallel; yield its results in order, or the error text."""

    def apply(source: ImageSource) -> Answer | str:
        try:
            with Image.open(_opened(source), formats=formats) as image:
                return function(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return HUGE
        except UnidentifiedImageError:
            return UNIDENTIFIED
        except Exception as error:  # Pillow raises a dozen types on damaged files
            return message_of(error)

    formats, remaining = readable_formats(), iter(files)
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # Pillow warns about metadata that do not matter here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        while batch := [*itertools.islice(remaining, READ_BATCH)]:
            yield from pool.map(apply, batch)


def _opened(source: ImageSource) -> pathlib.Path | io.BytesIO:
    return io.BytesIO(source.content) if isinstance(source, EncodedImage) else source


def _in_memory(source: ImageSource) -> ImageSource:
    """Read the bytes of an image file, so that it is opened only once; return the source unchanged if that fails."""
    with contextlib.suppress(OSError):
        return source if isinstance(source, EncodedImage) else EncodedImage(source.read_bytes(), lambda: str(source))
    return source


def _read_all(
    files: Sequence[ImageSource], sources: Iterable[ImageSource], size: Size
) -> tuple[np.ndarray, list[ImageInfo]]:
    """Read images into one size, uint8 [n, h, w, c], c = 3 if any has colour.

    `sources` are the same images, some already in memory. InputError if any cannot be read; it names up to ten.
    """
    errors: dict[ImageSource, str] = {}
    infos: list[ImageInfo] = []
    values = np.empty((len(files), size[1], size[0], 1), dtype=np.uint8)
    for i, (source, loaded) in enumerate(
        zip(files, _map_images(sources, lambda image: _load(image, size)), strict=True)
    ):
        if isinstance(loaded, str):
            errors[source] = loaded
            continue
        info, pixels = loaded
        infos.append(info)
        if pixels.shape[2] > values.shape[3]:  # the first in colour
            values = np.repeat(values, pixels.shape[2], axis=3)
        values[i] = pixels
    if errors:
        raise _refused(files, errors)
    return values, infos


def read_uniform(files: Sequence[ImageSource], to: Size, mode: str) -> np.ndarray:
    """Read images as uint8 [n, h, w, c], cropped and resized to the width and height `to`.

    `mode` is the colour mode of the result, L (gray) or RGB. InputError if a file cannot be read.
    """
    values, _ = _read_all(files, files, to)
    if mode == "RGB":
        return np.repeat(values, 3, axis=3) if values.shape[3] == 1 else values
    return (
        values if values.shape[3] == 1 else np.stack([to_pixels(from_pixels(value).convert("L")) for value in values])
    )


def read_images(
    files: Sequence[ImageSource], size: int | None, limit: int | None, to: Size | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read images as uint8 [n, h, w, c], RGB if any image has colour; also return notes on changes made to the images.

    All images are cropped and resized to the width and height `to`. If it is None, this is the common size of the
    images, scaled so that the longer side becomes `size`, or is at most `limit` if `size` is None. The common size is
    guessed from the first images; if the guess is wrong, the images are read again.
    InputError if files cannot be read; the message names up to ten.
    """
    first_sources = [*map(_in_memory, files[:FIRST])]
    first_sizes = [info.size for info in _map_images(first_sources, image_info) if isinstance(info, ImageInfo)]
    guess = to or (target_size(common_size(first_sizes), size, limit) if first_sizes else (1, 1))
    values, infos = _read_all(files, [*first_sources, *files[FIRST:]], guess)
    sizes = [info.size for info in infos]
    target = to or target_size(common_size(sizes), size, limit)
    if target != guess:
        values, _ = _read_all(files, files, target)
    mode = "RGB" if values.shape[3] == 3 else "L"
    return values, (*resize_notes(sizes, target), *_mode_notes(infos, mode), *_frames(infos))


def _refused(files: Sequence[ImageSource], errors: dict[ImageSource, str]) -> InputError:
    listed = abbreviated([f"{path} ({errors[path]})" for path in files if path in errors])
    remedy = "Reduce the huge images in an image editor" if {*errors.values()} == {HUGE} else ""
    return InputError(
        f"{len(errors)} of {len(files)} images cannot be read: {listed}",
        remedy=remedy or "Replace or remove these images",
    )


def load_image(path: pathlib.Path, size: int | None, limit: int | None, to: Size | None = None) -> RawImages:
    """Read a single image; the arguments are those of `read_images`.

    Raises:
        InputError: If the file cannot be read.
        NotInstalledError: If the image needs a package that is not installed.
    """
    if path.suffix.lower() in HEIC:
        require_package("pillow_heif", "reading HEIC images", "heic")
    values, notes = read_images([path], size, limit, to)
    return RawImages(values, levels=255, notes=(*notes, "the data set is a single image"))


def _mode_notes(infos: list[ImageInfo], mode: str) -> tuple[str, ...]:
    """Return notes on images that were converted to a colour mode, and on those that were reduced to 8 bits."""
    num_deep = sum(info.is_deep for info in infos)
    deep_note = (f"{num_deep} of {len(infos)} images have 16 bits per channel, reduced to 8",) if num_deep else ()
    modes = ["L" if info.mode.startswith("I") else info.mode for info in infos]
    others = Counter(other for other in modes if other != mode)
    if not others:
        return deep_note
    num_transparent = sum(count for other, count in others.items() if other in CLEAR)
    transparent_note = f", {num_transparent} transparent ones composited on white" if num_transparent else ""
    listed = ", ".join(f"{count} of {other}" for other, count in others.most_common())
    return (
        f"{others.total()} of {len(modes)} images were converted to {mode} ({listed}){transparent_note}",
        *deep_note,
    )


def _frames(infos: list[ImageInfo]) -> tuple[str, ...]:
    num_animated = sum(info.frames > 1 for info in infos)
    return (f"only the first frame of {num_animated} multi-frame images was used",) if num_animated else ()


FILE_COLUMN, CAPTION = "file", "caption"
"""Column of file names in the table of conditions of a folder of images, and name of the usual condition."""


def load_image_folder(
    folder: pathlib.Path,
    size: int | None,
    limit: int | None,
    condition: Sequence[str] = (),
    *,
    to: Size | None = None,
    folders: FolderOptions = DEFAULT_FOLDERS,
) -> RawImages:
    """Read the images of a folder; the names of subfolders are the classes.

    All images get one size: the width and height `to`, or if it is None the common size of the images, whose longer
    side becomes `size` pixels, or is at most `limit` if `size` is None.

    Args:
        folder: Folder of images.
        size: Longer side after resizing, in pixels.
        limit: Maximum of the longer side, in pixels.
        condition: Names of conditions: columns of `captions.csv`, folders of images next to this folder, or `caption`,
            which is the text next to an image or the name of its file.
        to: Width and height after resizing, in pixels.
        folders: Nested folders and links to follow.

    Raises:
        InputError: If there are no images, some images are outside the class subfolders although these exist, or an
            image has no condition.
    """
    endings, unreadable = ((*ENDINGS, *HEIC), None) if has_heic() else (ENDINGS, dict.fromkeys(HEIC, HEIC_REASON))
    listing = list_class_folders(folder, endings, "images", folders, unreadable)
    if not condition and (unused := caption_columns(folder)):
        note = f"{CAPTIONS_FILE} is not used; --condition selects its columns: {abbreviated(unused)}"
        listing = replace(listing, notes=(*listing.notes, note))
    if listing.labels is None:
        values, notes = read_images(listing.unclassified, size, limit, to)
        columns = _conditions(folder, listing.unclassified, size, limit, condition)
        names = (*caption_columns(folder), CAPTION)
        notes = (*listing.notes, *notes)
        return RawImages(values, levels=255, notes=notes, condition_columns=columns, condition_names=names)
    pairs, names = [*zip(listing.files, listing.labels.tolist(), strict=True)], tuple(listing.classes)
    if sample_folder.is_overview(folder / sample_folder.OVERVIEW_FILE):  # samples by feller are numbered across classes
        pairs.sort(key=lambda pair: pair[0].name)
        names = tuple(sample_folder.class_name(name) for name in names)
    files = [path for path, _ in pairs]
    values, notes = read_images(files, size, limit, to)
    columns, candidates = _conditions(folder, files, size, limit, condition), (*caption_columns(folder), CAPTION)
    return RawImages(
        values,
        np.array([i for _, i in pairs]),
        names,
        levels=255,
        notes=(*listing.notes, *notes),
        condition_columns=columns,
        condition_names=candidates,
    )


def caption_columns(folder: pathlib.Path) -> tuple[str, ...]:
    """Return the names of the columns of `captions.csv` in a folder of images; empty if there is no such file."""
    sheet = _captions(folder)
    return () if sheet is None else tuple(name for name in sheet.first_row if name != FILE_COLUMN)


def _captions(folder: pathlib.Path) -> Sheet | None:
    path = folder / CAPTIONS_FILE
    sheet = read_sheet(path) if path.is_file() else None
    if sheet is not None and FILE_COLUMN not in sheet.first_row:
        raise InputError(f"a column {FILE_COLUMN!r}", ", ".join(sheet.first_row), "Name the files", file=path)
    return sheet


def _conditions(
    folder: pathlib.Path, files: Sequence[pathlib.Path], size: int | None, limit: int | None, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return those conditions among `names` that the images of a folder have, by name."""
    if not names:
        return {}
    columns: dict[str, np.ndarray] = {}
    sheet = _captions(folder)
    if sheet is not None and {*names} & {*sheet.first_row}:
        cells = [column.to_pylist() for column in sheet.cells.columns]
        rows = {file: i for i, file in enumerate(cells[sheet.first_row.index(FILE_COLUMN)])}
        keys = [file.relative_to(folder).as_posix() for file in files]
        if missing := [key for key in keys if key not in rows]:
            found = f"none for {len(missing)} of {len(keys)} images, such as {missing[0]}"
            raise InputError("a row for every image", found, "Add the row", file=folder / CAPTIONS_FILE)
        for name, column in zip(sheet.first_row, cells, strict=True):
            if name in names and name != FILE_COLUMN:
                columns[name] = np.array([column[rows[key]] for key in keys], dtype=object)
    is_sampled = sample_folder.is_overview(folder / sample_folder.OVERVIEW_FILE)
    for name in names:
        sibling = folder.resolve().parent / name
        if name in columns or is_sampled:
            continue
        if pathlib.PurePath(name).name == name and sibling.is_dir() and sibling != folder.resolve():
            columns[name], _ = read_images(_counterparts(files, folder, sibling), size, limit)
        elif name == CAPTION:
            columns[name] = np.array([_caption_of(file) for file in files], dtype=object)
    return columns


def _counterparts(files: Sequence[pathlib.Path], folder: pathlib.Path, sibling: pathlib.Path) -> list[pathlib.Path]:
    """Return for each image the image of the same name in another folder; the suffixes may differ."""
    others = {
        path.relative_to(sibling).with_suffix(""): path
        for path in sorted(sibling.rglob("*"))
        if path.suffix.lower() in ENDINGS and path.is_file() and not is_outside(path, sibling)
    }
    keys = [file.relative_to(folder).with_suffix("") for file in files]
    if missing := [key for key in keys if key not in others]:
        found = f"none for {len(missing)} of {len(keys)} images, such as {missing[0]}"
        raise InputError("an image of the same name for every image", found, "Add it", file=sibling)
    return [others[key] for key in keys]


def _caption_of(file: pathlib.Path) -> str:
    """Return the text next to an image, or the words in its file name without a number at the end."""
    text = file.with_suffix(".txt")
    if text.is_file():
        return " ".join(read_unicode(text).split())
    words = re.split(r"[\s_-]+", file.stem)
    while len(words) > 1 and words[-1].isdecimal():
        words.pop()
    return " ".join(words).strip()


def check_one_kind(folder: pathlib.Path) -> None:
    """Raise an InputError if the images of a folder differ in size or colour mode; unreadable files are ignored."""
    images = (file for file in sorted(folder.rglob("*")) if file.suffix.lower() in ENDINGS and file.is_file())
    files = [file for file in images if not sample_folder.is_overview(file)]
    examples: dict[str, pathlib.Path] = {}
    for file, info in zip(files, _map_images(files, image_info), strict=True):
        if isinstance(info, ImageInfo):
            (width, height), mode, colour, *_ = info
            examples.setdefault(f"{width} x {height} {'in colour' if colour else 'gray'} ({mode})", file)
    if len(examples) > 1:
        listed = ", ".join(f"{description} ({file.name})" for description, file in list(examples.items())[:3])
        raise InputError(
            "private fits need images of the same size and mode, because preprocessing would otherwise depend on the"
            f" rows; found {listed}. Convert the images first",
            file=folder,
        )
