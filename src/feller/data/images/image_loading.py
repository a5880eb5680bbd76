"""Load images of any format, mode and size into one array."""

import contextlib
import io
import itertools
import os
import pathlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps

from feller.core.errors import InputError
from feller.data.files import sample_folder
from feller.data.images.image_resizing import (
    Size,
    crop_and_resize,
    from_pixels,
    most_common,
    resize_notes,
    target_size,
    to_pixels,
)
from feller.data.labels import abbreviated
from feller.data.loading.class_folders import list_class_folders
from feller.data.loading.raw import RawImages

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
GRAY = ("L", "1", "LA", "I", "F")
CLEAR = ("RGBA", "LA", "PA")
FINER = 4
"""How many times finer than it is wanted a JPEG is decoded, at least."""
FIRST, READ_BATCH = 32, 1024
"""Pictures that tell what size most have; pictures that wait to be read at once."""
THREADS = min(8, os.cpu_count() or 1)
Answer = TypeVar("Answer")


class ImageInfo(NamedTuple):
    """What a picture is, without its pixels."""

    size: Size
    """As it is seen, upright."""
    mode: str
    colour: bool
    frames: int


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """A picture inside another file."""

    content: bytes
    name: Callable[[], str]
    """What it is called, for errors."""

    def __str__(self) -> str:
        return self.name()


ImageSource = pathlib.Path | EncodedImage


def image_info(image: Image.Image) -> ImageInfo:
    """Find out what a picture is without its pixels."""
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientation: lying on its side
    colour = image.mode not in GRAY and not image.mode.startswith("I;16")
    if image.mode in ("P", "PA"):
        image.load()
        palette = np.array(image.getpalette("RGB") or [0]).reshape(-1, 3)
        colour = bool((palette != palette[:, :1]).any())
    return ImageInfo(image.size[::-1] if turned else image.size, image.mode, colour, getattr(image, "n_frames", 1))


def _load(image: Image.Image, to: Size) -> tuple[ImageInfo, np.ndarray]:
    """Read a picture as it is seen: upright, on white, of one size; gray, [h, w, 1], if it has no colour."""
    look = image_info(image)
    if image.format == "JPEG" and min(image.size) > FINER * max(to):
        image.draft(None, (FINER * max(to), FINER * max(to)))  # decodes no more of its frequencies than are needed
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("expected 8 or 16 bits a pixel")
        image = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("expected 8 or 16 bits a pixel, it holds real numbers")
    elif image.mode in CLEAR or "transparency" in image.info:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    mode = "RGB" if look.colour else "L"
    return look, to_pixels(crop_and_resize(image.convert("RGB").convert(mode) if image.mode != mode else image, to))


def _map_images(files: Iterable[ImageSource], function: Callable[[Image.Image], Answer]) -> Iterator[Answer | str]:
    """Open pictures, each once and several at a time, and yield what is read, in order, or why that fails."""

    def one(source: ImageSource) -> Answer | str:
        try:
            with Image.open(_opened(source), formats=FORMATS) as image:
                return function(image)
        except Exception as error:  # Pillow raises a dozen kinds on damaged files
            return " ".join(str(error).split()) or type(error).__name__

    left = iter(files)
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # Pillow warns about metadata that do not matter here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        while some := [*itertools.islice(left, READ_BATCH)]:
            yield from pool.map(one, some)


def _opened(source: ImageSource) -> pathlib.Path | io.BytesIO:
    return io.BytesIO(source.content) if isinstance(source, EncodedImage) else source


def _in_memory(source: ImageSource) -> ImageSource:
    """Return a file with its content, so that it need not be opened again; as it is where it cannot be read."""
    with contextlib.suppress(OSError):
        return source if isinstance(source, EncodedImage) else EncodedImage(source.read_bytes(), lambda: str(source))
    return source


def _read_all(
    files: Sequence[ImageSource], sources: Iterable[ImageSource], size: Size
) -> tuple[np.ndarray, list[ImageInfo]]:
    """Read pictures into one size, uint8 [n, h, w, c], in colour if any has some; `sources` are the same, perhaps held.

    InputError if any cannot be read; counts them and names up to ten.
    """
    bad: dict[ImageSource, str] = {}
    looks: list[ImageInfo] = []
    values = np.empty((len(files), size[1], size[0], 1), dtype=np.uint8)
    for i, (source, answer) in enumerate(
        zip(files, _map_images(sources, lambda image: _load(image, size)), strict=True)
    ):
        if isinstance(answer, str):
            bad[source] = answer
            continue
        look, levels = answer
        looks.append(look)
        if levels.shape[2] > values.shape[3]:  # the first in colour
            values = np.repeat(values, levels.shape[2], axis=3)
        values[i] = levels
    if bad:
        raise _refused(files, bad)
    return values, looks


def read_uniform(files: Sequence[ImageSource], to: Size, mode: str) -> np.ndarray:
    """Read pictures into one size and mode, uint8 [n, h, w, c].

    InputError if any cannot be read; counts them and names up to ten.
    """
    values, _ = _read_all(files, files, to)
    if mode == "RGB":
        return np.repeat(values, 3, axis=3) if values.shape[3] == 1 else values
    return (
        values if values.shape[3] == 1 else np.stack([to_pixels(from_pixels(value).convert("L")) for value in values])
    )


def read_images(
    files: Sequence[ImageSource], size: int | None, limit: int | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read files into uint8 [n, h, w, c], RGB if any has colour, and say what was changed.

    The first of them tell what size most have. Only where that is another are they read once more. The longer side
    becomes `size`, or else stays up to `limit`. InputError if any cannot be read; it counts them and names up to ten.
    """
    held = [*map(_in_memory, files[:FIRST])]
    first = [look.size for look in _map_images(held, image_info) if isinstance(look, ImageInfo)]
    to = target_size(most_common(first), size, limit) if first else (1, 1)
    values, looks = _read_all(files, [*held, *files[FIRST:]], to)
    sizes = [look.size for look in looks]
    wanted = target_size(most_common(sizes), size, limit)
    if wanted != to:
        values, _ = _read_all(files, files, wanted)
    mode = "RGB" if values.shape[3] == 3 else "L"
    return values, (*resize_notes(sizes, wanted), *_mode_notes([look.mode for look in looks], mode), *_frames(looks))


def _refused(files: Sequence[ImageSource], bad: dict[ImageSource, str]) -> InputError:
    named = abbreviated([f"{path} ({bad[path]})" for path in files if path in bad])
    return InputError(f"{len(bad)} of {len(files)} pictures cannot be read: {named}", remedy="Replace or remove them")


def load_image(path: pathlib.Path, size: int | None, limit: int | None) -> RawImages:
    """Read a single picture; InputError if it cannot be read."""
    values, notes = read_images([path], size, limit)
    return RawImages(values, levels=255, notes=(*notes, "the data are a single picture"))


def _mode_notes(modes: list[str], mode: str) -> tuple[str, ...]:
    others = Counter(other for other in modes if other != mode)
    if not others:
        return ()
    clear = sum(count for other, count in others.items() if other in CLEAR)
    white = f", {clear} transparent ones laid on white" if clear else ""
    listed = ", ".join(f"{count} of {other}" for other, count in others.most_common())
    return (f"{others.total()} of {len(modes)} pictures were converted to {mode} ({listed}){white}",)


def _frames(infos: list[ImageInfo]) -> tuple[str, ...]:
    moving = sum(look.frames > 1 for look in infos)
    return (f"the first frame was taken of {moving} pictures with several",) if moving else ()


def load_image_folder(folder: pathlib.Path, size: int | None, limit: int | None) -> RawImages:
    """Read the pictures of a folder; the names of its sub-folders are the classes.

    InputError if there are none, or if some lie beside the sub-folders of others.
    """
    held = list_class_folders(folder, ENDINGS, "pictures")
    if held.labels is None:
        values, notes = read_images(held.unclassified, size, limit)
        return RawImages(values, levels=255, notes=(*held.notes, *notes))
    pairs, names = [*zip(held.files, held.labels.tolist(), strict=True)], tuple(held.classes)
    if sample_folder.is_overview(folder / sample_folder.OVERVIEW_FILE):  # our samples are numbered through all classes
        pairs.sort(key=lambda pair: pair[0].name)
        names = tuple(sample_folder.class_name(name) for name in names)
    values, notes = read_images([path for path, _ in pairs], size, limit)
    return RawImages(values, np.array([i for _, i in pairs]), names, levels=255, notes=(*held.notes, *notes))


def check_one_kind(folder: pathlib.Path) -> None:
    """Refuse pictures of several sizes, or of which some have colour and some have none; others cannot be read anyway.

    InputError then.
    """
    found = (file for file in sorted(folder.rglob("*")) if file.suffix.lower() in ENDINGS and file.is_file())
    files = [file for file in found if not sample_folder.is_overview(file)]
    seen: dict[str, pathlib.Path] = {}
    for file, look in zip(files, _map_images(files, image_info), strict=True):
        if isinstance(look, ImageInfo):
            (width, height), mode, colour, _ = look
            seen.setdefault(f"{width} x {height} {'in colour' if colour else 'gray'} ({mode})", file)
    if len(seen) > 1:
        kinds = ", ".join(f"{kind} ({file.name})" for kind, file in list(seen.items())[:3])
        raise InputError(
            "a private fit takes pictures of one size and mode, since otherwise some decide how others are read;"
            f" there are {kinds}: convert them first",
            file=folder,
        )
