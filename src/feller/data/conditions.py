"""Types of conditions, such as numbers, categories, texts and images: their encoding as tensors, and null values."""

import abc
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from PIL import Image, ImageOps
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.files.plain_text import parse_number
from feller.data.labels import abbreviated, class_number, encode_labels, unknown_class

ConditionColumn = Sequence[object] | np.ndarray | Tensor
"""Values of a condition, one entry per example, as in files or Python."""
SET_SEPARATORS = ("|", ";")
"""Characters that separate the elements of a set in a cell."""
TEXT_NAMES = ("caption", "captions", "text", "prompt")
"""Names of columns whose texts are read by their characters, even if few texts are distinct."""
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""Formats of image files."""
MAX_TEXT = 256
"""Maximum number of characters of a text."""
NUM_BYTES = 256
"""Number of bytes; texts of more distinct characters are read as bytes."""
MAX_RARE = 100
"""Maximum number of categories if most of them occur once."""
MAX_CATEGORIES = 1000
"""Maximum number of categories of a condition, and of different elements of a set."""


@dataclass(frozen=True)
class Condition(abc.ABC):
    """Type of a condition. Its values are a tensor with one entry per example; the null value means "unconditional"."""

    @property
    def null(self) -> int | float:
        """Value with which the entry of an example is filled if it has no condition: NaN, unless overridden."""
        return math.nan

    @property
    @abc.abstractmethod
    def example(self) -> str:
        """Valid value, for messages."""

    @property
    def placeholder(self) -> str:
        """Text that shows in an empty field of a form which values are expected."""
        return self.example

    @property
    def choices(self) -> tuple[str, ...]:
        """All valid values, for a dropdown; empty if they cannot be listed."""
        return ()

    is_file: ClassVar[bool] = False
    """True if a text given by a user names a file, which the web page does not accept."""

    @abc.abstractmethod
    def encode(self, name: str, column: ConditionColumn) -> Tensor:
        """Convert the values of examples, as in files or Python, to a tensor [n, ...].

        Raises:
            InputError: If a value has the wrong type or is unknown; `name` is the name of the condition.
        """

    @abc.abstractmethod
    def decode(self, values: Tensor) -> np.ndarray:
        """Convert a tensor [n, ...] to the values in files: numbers [n] or [n, d], NaN for null, or texts [n]."""

    def parse(self, name: str, value: object, n: int) -> Tensor:
        """Convert a value given by a user, or one value for each of n samples, to a tensor [n, ...].

        Raises:
            UsageError: If a value has the wrong type or is unknown.
        """
        entries = self._entries(value)
        if entries is None:
            entries = [value] * n
        if len(entries) != n:
            raise UsageError(argument=name, expected=f"one value, or {n} values, one per sample", found=len(entries))
        try:
            return self.encode(name, entries)
        except InputError as error:
            raise UsageError(argument=name, expected=error.expected, found=error.found, remedy=error.remedy) from error

    def _entries(self, value: Any) -> Any:
        """Return the values of several samples; None for a single value."""
        if isinstance(value, Tensor | np.ndarray) and value.ndim:
            return value
        return value if isinstance(value, list | tuple) else None

    def outside(self, values: Tensor) -> str | None:
        """Describe the training range if some values are outside of it; None otherwise."""
        return None

    def is_null(self, values: Tensor) -> Bool[Tensor, " n"]:
        """Return True for each example whose value is null."""
        entries = values.reshape(len(values), -1)
        return (entries.isnan() if math.isnan(self.null) else entries == self.null).any(1)

    def null_values(self, n: int) -> Tensor:
        """Return the null value of n examples, [n, ...]."""
        return torch.full((n, *self._shape), self.null, dtype=self._dtype)

    @property
    def _shape(self) -> tuple[int, ...]:
        return ()

    _dtype: ClassVar[torch.dtype] = torch.float64


@dataclass(frozen=True)
class NumberCondition(Condition):
    """Real number, float64 [n]; missing numbers are NaN, which is also the null value."""

    mean: float
    scale: float
    """Standard deviation in the training data."""
    low: float
    """Minimum in the training data."""
    high: float
    """Maximum in the training data."""

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and self.low <= self.high and math.isfinite(self.mean)):
            raise InputError("a finite mean, a positive scale, and a range", self)

    @property
    def example(self) -> str:
        return f"{self.mean:.3g}"

    @property
    def placeholder(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def encode(self, name: str, column: ConditionColumn) -> Float64[Tensor, " n"]:
        return torch.from_numpy(_numbers(name, column, 1))

    def decode(self, values: Float64[Tensor, " n"]) -> Float64[np.ndarray, " n"]:
        return values.detach().cpu().double().numpy()

    def outside(self, values: Float64[Tensor, " n"]) -> str | None:
        is_outside = (values < self.low) | (values > self.high)
        return f"{self.low:g} to {self.high:g}" if bool(is_outside.any()) else None


@dataclass(frozen=True)
class VectorCondition(Condition):
    """Vector of real numbers, such as an embedding, float64 [n, d]; the null value is a vector of NaN."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    """Standard deviation of each entry in the training data; 1 for a constant entry."""

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.scale) or not all(0 < s < math.inf for s in self.scale):
            raise InputError("a mean and a positive scale for each entry of the vector", self)

    @property
    def example(self) -> str:
        return f"a list of {len(self.mean)} numbers"

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.mean),)

    def encode(self, name: str, column: ConditionColumn) -> Float64[Tensor, "n d"]:
        values = _numbers(name, column, 2)
        if values.shape[1] != len(self.mean):
            raise InputError(f"vectors of {len(self.mean)} numbers", f"vectors of {values.shape[1]}", argument=name)
        return torch.from_numpy(values)

    def _entries(self, value: Any) -> Any:
        if isinstance(value, Tensor | np.ndarray):
            return value if value.ndim == 2 else None
        is_several = isinstance(value, list | tuple) and len(value) > 0 and not all(map(_is_entry, value))
        return value if is_several else None

    def decode(self, values: Float64[Tensor, "n d"]) -> Float64[np.ndarray, "n d"]:
        return values.detach().cpu().double().numpy()


@dataclass(frozen=True)
class CategoryCondition(Condition):
    """One of several categories, int64 [n]: indices into `categories`, whose number is the null value."""

    categories: tuple[str, ...]
    _dtype: ClassVar[torch.dtype] = torch.int64

    def __post_init__(self) -> None:
        if not self.categories or len({*self.categories}) < len(self.categories):
            raise InputError("distinct categories", ", ".join(self.categories) or "none")

    @property
    def null(self) -> int | float:
        return len(self.categories)

    @property
    def example(self) -> str:
        return self.categories[0]

    @property
    def placeholder(self) -> str:
        return abbreviated(self.categories)

    @property
    def choices(self) -> tuple[str, ...]:
        return self.categories

    def encode(self, name: str, column: ConditionColumn) -> Int64[Tensor, " n"]:
        ids = [len(self.categories) if _is_missing(cell) else self._id(name, cell) for cell in _cells(column)]
        return torch.tensor(ids, dtype=torch.int64)

    def _id(self, name: str, cell: Any) -> int:
        index = class_number(_text(cell), self.categories)
        if index is None:
            raise unknown_class(InputError, name, _text(cell), self.categories)
        return index

    def decode(self, values: Int64[Tensor, " n"]) -> np.ndarray:
        return np.array([*self.categories, ""])[values.cpu().numpy()]


@dataclass(frozen=True)
class SetCondition(Condition):
    """Set of elements, as multi-hot vectors, float64 [n, elements]; the null value is NaN, unlike the empty set."""

    elements: tuple[str, ...]
    separator: str = SET_SEPARATORS[0]
    """Character that separates the elements in a cell."""

    def __post_init__(self) -> None:
        if not self.elements or len({*self.elements}) < len(self.elements) or len(self.separator) != 1:
            raise InputError("distinct elements and one character that separates them", self)

    @property
    def example(self) -> str:
        return self.separator.join(self.elements[:2])

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.elements),)

    def _entries(self, value: Any) -> Any:
        is_nested = isinstance(value, list | tuple) and any(isinstance(entry, list | tuple | set) for entry in value)
        return value if is_nested or (isinstance(value, Tensor | np.ndarray) and value.ndim == 2) else None

    def encode(self, name: str, column: ConditionColumn) -> Float64[Tensor, "n elements"]:
        if isinstance(column, Tensor | np.ndarray) and column.ndim == 2:
            return torch.from_numpy(_numbers(name, column, 2))
        values = np.zeros((len(column), len(self.elements)))
        for i, cell in enumerate(_cells(column)):
            if _is_missing(cell):
                values[i] = math.nan
                continue
            for element in elements_of(cell, self.separator):
                if element not in self.elements:
                    raise unknown_class(InputError, name, element, self.elements)
                values[i, self.elements.index(element)] = 1
        return torch.from_numpy(values)

    def decode(self, values: Float64[Tensor, "n elements"]) -> np.ndarray:
        """Convert multi-hot vectors to cells [n]; the cell of the empty set is the separator, that of null is empty."""
        rows, is_null = (values == 1).tolist(), self.is_null(values).tolist()
        sets = [self.separator.join(itertools.compress(self.elements, row)) or self.separator for row in rows]
        return np.array(["" if null else cell for cell, null in zip(sets, is_null, strict=True)])


@dataclass(frozen=True)
class TextCondition(Condition):
    """Text as characters or bytes, int64 [n, length]; padding follows the text, and the null value is all padding."""

    symbols: str
    """All characters of the training data, in order of their tokens; empty for bytes."""
    length: int
    """Maximum number of tokens: twice that of the longest text in the training data, up to MAX_TEXT."""
    example_text: str
    """Text of the training data, for messages."""
    _dtype: ClassVar[torch.dtype] = torch.int64

    def __post_init__(self) -> None:
        if not 1 <= self.length <= MAX_TEXT:
            raise InputError(f"a length of texts from 1 to {MAX_TEXT}", self.length)

    @property
    def null(self) -> int | float:
        return len(self.symbols) or NUM_BYTES

    @property
    def example(self) -> str:
        return self.example_text

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.length,)

    def encode(self, name: str, column: ConditionColumn) -> Int64[Tensor, "n length"]:
        """Convert texts to tokens; a tensor of tokens is returned unchanged."""
        if isinstance(column, Tensor):
            is_token = column.ndim == 2 and column.shape[1] == self.length and not column.is_floating_point()
            if not is_token or bool(((column < 0) | (column > self.null)).any()):
                expected = f"integer tokens [n, {self.length}] up to {self.null}"
                raise InputError(expected, f"{column.dtype} {list(column.shape)}", argument=name)
            return column.long()
        tokens = self.null_values(len(column))
        for i, cell in enumerate(_cells(column)):
            ids = [] if _is_missing(cell) else self._tokens(name, _text(cell))
            if len(ids) > self.length:
                raise _too_long(name, len(ids), self.length, i)
            tokens[i, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return tokens

    def decode(self, values: Int64[Tensor, "n length"]) -> np.ndarray:
        rows = [[token for token in row if token != self.null] for row in values.tolist()]
        if self.symbols:
            return np.array(["".join(self.symbols[token] for token in row) for row in rows])
        return np.array([bytes(row).decode(errors="replace") for row in rows])

    def _tokens(self, name: str, text: str) -> list[int]:
        if not self.symbols:
            return list(text.encode(errors="replace"))
        unknown = sorted({*text} - {*self.symbols})
        if unknown:
            raise InputError(f"the characters of the training data, {self.symbols!r}", repr(unknown[0]), argument=name)
        return [self.symbols.index(symbol) for symbol in text]

    def is_null(self, values: Int64[Tensor, "n length"]) -> Bool[Tensor, " n"]:
        return (values == self.null).all(1)


def _too_long(name: str, length: int, longest: int, i: int) -> InputError:
    return InputError(f"texts of at most {longest} characters", length, "Shorten the text", argument=name, row=i + 1)


@dataclass(frozen=True)
class ImageCondition(Condition):
    """Image, float32 [n, channels, height, width] from -1 to 1; the null value is NaN."""

    channels: int
    height: int
    width: int
    low: float = 0.0
    """Value of files that becomes -1."""
    high: float = 255.0
    """Value of files that becomes 1."""
    _dtype: ClassVar[torch.dtype] = torch.float32
    is_file: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1 or not -math.inf < self.low < self.high < math.inf:
            raise InputError("images of at least one pixel, and low below high", self)

    @property
    def example(self) -> str:
        return "picture.png"

    @property
    def placeholder(self) -> str:
        return f"an image of {self.width} x {self.height} x {self.channels}"

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def _entries(self, value: Any) -> Any:
        if isinstance(value, Tensor | np.ndarray):
            return value if value.ndim == 4 or (value.ndim == 3 and self.channels == 1) else None
        return value if isinstance(value, list | tuple) else None

    def encode(self, name: str, column: ConditionColumn) -> Float32[Tensor, "n c h w"]:
        """Convert arrays [n, h, w] or [n, h, w, c], or names of image files, which are resized.

        A tensor [n, c, h, w] of numbers from -1 to 1 is returned unchanged.
        """
        if isinstance(column, Tensor):
            if column.shape[1:] != self._shape or not column.is_floating_point():
                raise InputError(f"images {list(self._shape)}", f"{column.dtype} {list(column.shape)}", argument=name)
            return column.float()
        pixels = column if isinstance(column, np.ndarray) else np.stack([self._pixels(entry) for entry in column])
        pixels = pixels[..., None] if pixels.ndim == 3 else pixels
        shape = (self.height, self.width, self.channels)
        if pixels.ndim != 4 or pixels.shape[1:] != shape or pixels.dtype.kind not in "biuf":
            raise InputError(f"images {list(shape)}", list(pixels.shape[1:]), argument=name)
        values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float64))
        if bool(values.isinf().any()):
            raise InputError("finite pixel values", "inf", argument=name)
        return (2 * (values - self.low) / (self.high - self.low) - 1).float()

    def _pixels(self, entry: Any) -> np.ndarray:
        """Return the pixels [h, w, c] of an array, or of an image file, resized to the size of this condition."""
        if not isinstance(entry, str | os.PathLike):
            pixels = np.asarray(entry)
            return pixels[..., None] if pixels.ndim == 2 else pixels
        if self.channels not in (1, 3):
            raise InputError("an array", "a file, which has no images of these channels")
        mode = "L" if self.channels == 1 else "RGB"
        try:
            with Image.open(entry, formats=PICTURE_FORMATS) as image:
                fitted = ImageOps.fit(ImageOps.exif_transpose(image).convert(mode), (self.width, self.height))
        except Exception as error:  # Pillow raises a dozen types on damaged files
            raise InputError("an image file", str(entry), file=entry) from error
        pixels = np.asarray(fitted, dtype=np.float64).reshape(self.height, self.width, self.channels)
        return self.low + pixels / 255 * (self.high - self.low)

    def decode(self, values: Float32[Tensor, "n c h w"]) -> np.ndarray:
        """Convert to pixels [n, h, w, c] as in files: bytes if they were bytes, with 0 for null."""
        pixels = (values.detach().cpu().double().nan_to_num(-1) + 1) / 2 * (self.high - self.low) + self.low
        pixels = pixels.permute(0, 2, 3, 1)
        is_bytes = (self.low, self.high) == (0.0, 255.0)
        return (pixels.round().clamp(0, 255).to(torch.uint8) if is_bytes else pixels).numpy()


def fit_condition(name: str, column: ConditionColumn) -> Condition:
    """Return the type of a condition, with the statistics of its values in the training data.

    Numbers are standardised, and vectors: arrays [n, d], or cells such as `0.1 0.2`. Cells such as `a|b` or `a;b`, and
    Python lists and sets of texts, are sets. Other texts are categories; if there are too many, or the column is named
    `caption`, `text` or `prompt`, they are read by their characters. Arrays [n, h, w] and [n, h, w, c] are images.

    Raises:
        InputError: If all values are equal or missing, or a text is too long.
    """
    is_array = isinstance(column, Tensor | np.ndarray)
    if is_array and column.ndim in (3, 4):
        return _fit_image(name, column)
    if is_array and column.ndim == 2:
        return _fit_vector(name, _numbers(name, column, 2))
    cells = _cells(column)
    present = [cell for cell in cells if not _is_missing(cell)]
    if not present:
        raise InputError("at least one value of the condition", "only missing values", argument=name)
    if all(isinstance(cell, set | frozenset | list | tuple) for cell in present):
        if all(isinstance(entry, Real) for cell in present for entry in cell) and not isinstance(present[0], set):
            return _fit_vector(name, _numbers(name, column, 2))
        return _fit_set(name, present, SET_SEPARATORS[0])
    if all(isinstance(cell, Real) or parse_number(_text(cell)) is not None for cell in present):
        return _fit_number(name, _numbers(name, column, 1))
    if len({len(_text(cell).split()) for cell in present}) == 1 and all(map(_is_vector, present)):
        return _fit_vector(name, _numbers(name, column, 2))
    if name.lower() in TEXT_NAMES:
        return _fit_text(name, cells)
    separator = next((s for s in SET_SEPARATORS if any(s in _text(cell) for cell in present)), None)
    if separator is not None and len({e for c in present for e in elements_of(c, separator)}) <= MAX_CATEGORIES:
        return _fit_set(name, present, separator)
    num_distinct = len({_text(cell) for cell in present})
    if num_distinct > MAX_CATEGORIES or (num_distinct > MAX_RARE and num_distinct > len(present) / 2):
        return _fit_text(name, cells)
    _, categories = encode_labels([_text(cell) for cell in present], name)
    _refuse_constant(name, len(categories) < 2)
    return CategoryCondition(categories)


def _fit_number(name: str, values: np.ndarray) -> NumberCondition:
    present = values[np.isfinite(values)]
    _refuse_constant(name, bool(present.min() == present.max()))
    scale = float(present.std())
    if not 0 < scale < math.inf:
        raise InputError("the range of values is too small or too large", remedy="Change the unit", argument=name)
    return NumberCondition(float(present.mean()), scale, float(present.min()), float(present.max()))


def _fit_vector(name: str, values: np.ndarray) -> VectorCondition:
    present = values[np.isfinite(values).all(1)]
    if not len(present):
        raise InputError("at least one value of the condition", "only missing values", argument=name)
    _refuse_constant(name, bool((present == present[0]).all()))
    scale = present.std(0)
    return VectorCondition(tuple(present.mean(0).tolist()), tuple(np.where(scale > 0, scale, 1.0).tolist()))


def _fit_set(name: str, cells: Sequence[Any], separator: str) -> SetCondition:
    counts = Counter(element for cell in cells for element in elements_of(cell, separator))
    if len(counts) > MAX_CATEGORIES:
        raise InputError(f"at most {MAX_CATEGORIES} different elements", len(counts), argument=name)
    _refuse_constant(name, len({frozenset(elements_of(cell, separator)) for cell in cells}) < 2)
    return SetCondition(tuple(sorted(counts)), separator)


def _fit_text(name: str, cells: Sequence[Any]) -> TextCondition:
    texts = ["" if _is_missing(cell) else _text(cell) for cell in cells]
    _refuse_constant(name, len({*texts} - {""}) < 2)
    symbols = "".join(sorted(set().union(*texts)))
    symbols = symbols if len(symbols) <= NUM_BYTES else ""
    lengths = [len(text if symbols else text.encode(errors="replace")) for text in texts]
    if max(lengths) > MAX_TEXT:
        i = next(i for i, length in enumerate(lengths) if length > MAX_TEXT)
        raise _too_long(name, lengths[i], MAX_TEXT, i)
    return TextCondition(symbols, min(2 * max(lengths), MAX_TEXT), next(text for text in texts if text))


def _fit_image(name: str, column: Tensor | np.ndarray) -> ImageCondition:
    pixels = column.detach().cpu().numpy() if isinstance(column, Tensor) else column
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    if pixels.dtype.kind not in "biuf" or not np.isfinite(pixels).all():
        raise InputError("images of finite numbers", pixels.dtype, argument=name)
    low, high = float(pixels.min()), float(pixels.max())
    _refuse_constant(name, bool((pixels == pixels[:1]).all()))
    _, height, width, channels = pixels.shape
    if pixels.dtype == np.uint8:
        low, high = 0.0, 255.0
    return ImageCondition(channels, height, width, low, high)


def _refuse_constant(name: str, is_constant: bool) -> None:
    if is_constant:
        raise InputError(
            "a condition with at least two different values", "a constant", "Leave this condition out", argument=name
        )


def elements_of(cell: Any, separator: str) -> list[str]:
    """Return the elements of a set, given as a text with separators, or as a list or set of texts."""
    entries: Iterable[Any] = cell if isinstance(cell, set | frozenset | list | tuple) else _text(cell).split(separator)
    return [text for entry in entries if (text := str(entry).strip())]


def vector_cells(vectors: Float64[np.ndarray, "n d"]) -> np.ndarray:
    """Return vectors as texts [n], numbers separated by blanks; empty for NaN."""
    return np.array(["" if any(x != x for x in row) else " ".join(map(repr, row)) for row in vectors.tolist()])


def _is_entry(value: Any) -> bool:
    return isinstance(value, Real) or (isinstance(value, str) and len(value.split()) == 1)


def _is_vector(cell: Any) -> bool:
    return all(parse_number(entry) is not None for entry in _text(cell).split())


def _cells(column: Any) -> Sequence[Any]:
    return column.tolist() if isinstance(column, Tensor | np.ndarray) else column


def _text(cell: Any) -> str:
    """Return the text of a cell; a whole float, such as a category read with missing cells, without its `.0`."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _is_missing(cell: Any) -> bool:
    """Return True for None, NaN and the empty text."""
    return (
        cell is None or (isinstance(cell, float) and math.isnan(cell)) or (isinstance(cell, str) and not cell.strip())
    )


def _numbers(name: str, column: Any, ndim: int) -> np.ndarray:
    """Return numbers [n] or vectors [n, d] as float64, NaN where missing.

    Raises:
        InputError: If a value is not a number, or infinite.
    """
    if isinstance(column, Tensor):
        column = column.detach().cpu().numpy()
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        values = column.astype(np.float64)
    else:
        cells = list(column)
        if ndim == 2:
            cells = [cell.split() if isinstance(cell, str) and cell.strip() else cell for cell in cells]
            width = len(next((cell for cell in cells if not _is_missing(cell)), ()))
            cells = [[math.nan] * width if _is_missing(cell) else cell for cell in cells]
            if any(len(cell) != width for cell in cells):
                raise InputError(f"vectors of {width} numbers", "vectors of different lengths", argument=name)
        parsed = [[_number(name, x) for x in cell] if ndim == 2 else _number(name, cell) for cell in cells]
        values = np.array(parsed, dtype=np.float64)
    if values.ndim != ndim:
        raise InputError("a number" if ndim == 1 else "a vector [d]", f"an array {list(values.shape)}", argument=name)
    if np.isinf(values).any():
        raise InputError("finite numbers; NaN for missing ones", "inf", argument=name)
    return values


def _number(name: str, cell: Any) -> float:
    if _is_missing(cell):
        return math.nan
    value = float(cell) if isinstance(cell, Real) else parse_number(str(cell).strip())
    if value is None:
        raise InputError("a number", repr(cell), argument=name)
    return value
