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
from feller.data.images.resize import Size, fit, most_common, picture, pixels, target, told
from feller.data.labels import first_of
from feller.data.loading.class_folders import classed
from feller.data.loading.raw import FoundPictures

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
GRAY = ("L", "1", "LA", "I", "F")
CLEAR = ("RGBA", "LA", "PA")
FINER = 4
"""How many times finer than it is wanted a JPEG is decoded, at least."""
FIRST, TOGETHER = 32, 1024
"""Pictures that tell what size most have; pictures that wait to be read at once."""
THREADS = min(8, os.cpu_count() or 1)
Answer = TypeVar("Answer")


class Look(NamedTuple):
    """What a picture is, without its pixels."""

    size: Size
    """As it is seen, upright."""
    mode: str
    colour: bool
    frames: int


@dataclass(frozen=True, eq=False)
class Packed:
    """A picture inside another file."""

    content: bytes
    name: Callable[[], str]
    """What it is called, for errors."""

    def __str__(self) -> str:
        return self.name()


Source = pathlib.Path | Packed


def look_at(image: Image.Image) -> Look:
    """Find out what a picture is without its pixels."""
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientation: lying on its side
    colour = image.mode not in GRAY and not image.mode.startswith("I;16")
    if image.mode in ("P", "PA"):
        image.load()
        palette = np.array(image.getpalette("RGB") or [0]).reshape(-1, 3)
        colour = bool((palette != palette[:, :1]).any())
    return Look(image.size[::-1] if turned else image.size, image.mode, colour, getattr(image, "n_frames", 1))


def _load(image: Image.Image, to: Size) -> tuple[Look, np.ndarray]:
    """Read a picture as it is seen: upright, on white, of one size; gray, [h, w, 1], if it has no colour."""
    look = look_at(image)
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
    return look, pixels(fit(image.convert("RGB").convert(mode) if image.mode != mode else image, to))


def _each(files: Iterable[Source], read: Callable[[Image.Image], Answer]) -> Iterator[Answer | str]:
    """Open pictures, each once and several at a time, and yield what is read, in order, or why that fails."""

    def one(source: Source) -> Answer | str:
        try:
            with Image.open(_opened(source), formats=FORMATS) as image:
                return read(image)
        except Exception as error:  # Pillow raises a dozen kinds on damaged files
            return " ".join(str(error).split()) or type(error).__name__

    left = iter(files)
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # Pillow warns about metadata that do not matter here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        while some := [*itertools.islice(left, TOGETHER)]:
            yield from pool.map(one, some)


def _opened(source: Source) -> pathlib.Path | io.BytesIO:
    return io.BytesIO(source.content) if isinstance(source, Packed) else source


def _in_memory(source: Source) -> Source:
    """Return a file with its content, so that it need not be opened again; as it is where it cannot be read."""
    with contextlib.suppress(OSError):
        return source if isinstance(source, Packed) else Packed(source.read_bytes(), lambda: str(source))
    return source


def _read_all(files: Sequence[Source], found: Iterable[Source], to: Size) -> tuple[np.ndarray, list[Look]]:
    """Read pictures into one size, uint8 [n, h, w, c], in colour if any has some; `found` are the same, perhaps held.

    InputError if any cannot be read; counts them and names up to ten.
    """
    bad: dict[Source, str] = {}
    looks: list[Look] = []
    values = np.empty((len(files), to[1], to[0], 1), dtype=np.uint8)
    for i, (source, answer) in enumerate(zip(files, _each(found, lambda image: _load(image, to)), strict=True)):
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


def read_alike(files: Sequence[Source], to: Size, mode: str) -> np.ndarray:
    """Read pictures into one size and mode, uint8 [n, h, w, c].

    InputError if any cannot be read; counts them and names up to ten.
    """
    values, _ = _read_all(files, files, to)
    if mode == "RGB":
        return np.repeat(values, 3, axis=3) if values.shape[3] == 1 else values
    return values if values.shape[3] == 1 else np.stack([pixels(picture(value).convert("L")) for value in values])


def read_pictures(files: Sequence[Source], size: int | None, limit: int | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read files into uint8 [n, h, w, c], RGB if any has colour, and say what was changed.

    The first of them tell what size most have. Only where that is another are they read once more. The longer side
    becomes `size`, or else stays up to `limit`. InputError if any cannot be read; it counts them and names up to ten.
    """
    held = [*map(_in_memory, files[:FIRST])]
    first = [look.size for look in _each(held, look_at) if isinstance(look, Look)]
    to = target(most_common(first), size, limit) if first else (1, 1)
    values, looks = _read_all(files, [*held, *files[FIRST:]], to)
    sizes = [look.size for look in looks]
    wanted = target(most_common(sizes), size, limit)
    if wanted != to:
        values, _ = _read_all(files, files, wanted)
    mode = "RGB" if values.shape[3] == 3 else "L"
    return values, (*told(sizes, wanted), *_told_modes([look.mode for look in looks], mode), *_frames(looks))


def _refused(files: Sequence[Source], bad: dict[Source, str]) -> InputError:
    named = first_of([f"{path} ({bad[path]})" for path in files if path in bad])
    return InputError(f"{len(bad)} of {len(files)} pictures cannot be read: {named}", remedy="Replace or remove them")


def find_picture(path: pathlib.Path, size: int | None, limit: int | None) -> FoundPictures:
    """Read a single picture; InputError if it cannot be read."""
    values, notes = read_pictures([path], size, limit)
    return FoundPictures(values, levels=255, notes=(*notes, "the data are a single picture"))


def _told_modes(modes: list[str], mode: str) -> tuple[str, ...]:
    others = Counter(other for other in modes if other != mode)
    if not others:
        return ()
    clear = sum(count for other, count in others.items() if other in CLEAR)
    white = f", {clear} transparent ones laid on white" if clear else ""
    listed = ", ".join(f"{count} of {other}" for other, count in others.most_common())
    return (f"{others.total()} of {len(modes)} pictures were converted to {mode} ({listed}){white}",)


def _frames(looks: list[Look]) -> tuple[str, ...]:
    moving = sum(look.frames > 1 for look in looks)
    return (f"the first frame was taken of {moving} pictures with several",) if moving else ()


def find_pictures(folder: pathlib.Path, size: int | None, limit: int | None) -> FoundPictures:
    """Read the pictures of a folder; the names of its sub-folders are the classes.

    InputError if there are none, or if some lie beside the sub-folders of others.
    """
    held = classed(folder, ENDINGS, "pictures")
    if held.labels is None:
        values, told = read_pictures(held.loose, size, limit)
        return FoundPictures(values, levels=255, notes=(*held.notes, *told))
    pairs, names = [*zip(held.files, held.labels.tolist(), strict=True)], tuple(held.classes)
    if sample_folder.is_ours(folder / sample_folder.NAME):  # our samples are numbered through all classes
        pairs.sort(key=lambda pair: pair[0].name)
        names = tuple(sample_folder.class_name(name) for name in names)
    values, told = read_pictures([path for path, _ in pairs], size, limit)
    return FoundPictures(values, np.array([i for _, i in pairs]), names, levels=255, notes=(*held.notes, *told))


def check_one_kind(folder: pathlib.Path) -> None:
    """Refuse pictures of several sizes, or of which some have colour and some have none; others cannot be read anyway.

    InputError then.
    """
    found = (file for file in sorted(folder.rglob("*")) if file.suffix.lower() in ENDINGS and file.is_file())
    files = [file for file in found if not sample_folder.is_ours(file)]
    seen: dict[str, pathlib.Path] = {}
    for file, look in zip(files, _each(files, look_at), strict=True):
        if isinstance(look, Look):
            (width, height), mode, colour, _ = look
            seen.setdefault(f"{width} x {height} {'in colour' if colour else 'gray'} ({mode})", file)
    if len(seen) > 1:
        kinds = ", ".join(f"{kind} ({file.name})" for kind, file in list(seen.items())[:3])
        raise InputError(
            "a private fit takes pictures of one size and mode, since otherwise some decide how others are read;"
            f" there are {kinds}: convert them first",
            file=folder,
        )
