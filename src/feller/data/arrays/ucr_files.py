"""Sets of labelled series in the formats of the UCR and UEA archives: .tsv, .ts and .arff, with a training and a test file.

Sources: Dau et al. 2019, "The UCR time series archive"; the format .ts as in the documentation of sktime and aeon.
"""

import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from feller.core.errors import InputError
from feller.data.files.plain_text import all_numbers, head_of, parse_number, read_letters
from feller.data.labels import encode_labels
from feller.data.loading.raw import RawArrays

ENDINGS = (".tsv", ".txt", ".ts", ".arff")
PART = re.compile(r"(?P<name>.+)_(?P<part>train|test)(?P<ending>\.tsv|\.txt|\.ts|\.arff)", re.IGNORECASE)
"""Pattern of the file names of a set, NAME_TRAIN.tsv and NAME_TEST.tsv."""
MISSING = {"?", "nan", ""}
"""Lower-case texts of a missing entry."""


def holds_labelled_series(path: pathlib.Path) -> bool:
    """Return True for .ts and .arff files of series, and for NAME_TRAIN.tsv and NAME_TEST.tsv without a header."""
    head = head_of(path).decode("latin-1")
    if path.suffix.lower() == ".ts":
        return (
            re.search(r"^\s*@(problemname|data|timestamps|univariate)\b", head, re.IGNORECASE | re.MULTILINE)
            is not None
        )
    if path.suffix.lower() == ".arff":
        return re.search(r"^\s*@(relation|attribute|data)\b", head, re.IGNORECASE | re.MULTILINE) is not None
    cells = head.partition("\n")[0].split()
    return PART.fullmatch(path.name) is not None and len(cells) > 2 and all_numbers(cells)


def set_in_folder(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path | None] | None:
    """Return the training and the test file of the set in a folder; None if the folder holds no set.

    Of several formats of one set, the first of ENDINGS is taken. The test file is None if there is none of that format.

    InputError if the folder holds several sets.
    """
    found: dict[tuple[str, str, str], pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
        match = PART.fullmatch(path.name)
        if match and path.is_file() and holds_labelled_series(path):
            found[match["name"], match["part"].lower(), match["ending"].lower()] = path
    names = sorted({name for name, part, _ in found if part == "train"})
    if not names:
        return None
    if len(names) > 1:
        raise InputError("one set of series", ", ".join(names), "Give one file, such as NAME_TRAIN.ts", file=folder)
    ending = min((ending for _, part, ending in found if part == "train"), key=ENDINGS.index)
    return found[names[0], "train", ending], found.get((names[0], "test", ending))


def load_labelled_series(path: pathlib.Path) -> RawArrays:
    """Read series [n, steps, channels] and their classes; shorter series are padded with NaN.

    The class is the first column of .tsv files, and the last value of a line of .ts and .arff files.

    InputError if the file is damaged, has time stamps, or a class or number is invalid.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_letters(path).split("\n"), 1)]
    reader = {".ts": _ts_rows, ".arff": _arff_rows}.get(path.suffix.lower(), _tsv_rows)
    rows = reader(lines, path)
    if not rows:
        raise InputError("at least one series", "none", file=path)
    series = [channels for _, channels, _ in rows]
    num_channels, steps = len(series[0]), max(len(channel) for channels in series for channel in channels)
    values = np.full((len(series), steps, num_channels), np.nan)
    for i, (number, channels, _) in enumerate(rows):
        if len(channels) != num_channels:
            raise InputError(f"{num_channels} channels, as in the first series", len(channels), file=path, row=number)
        for j, channel in enumerate(channels):
            values[i, : len(channel), j] = _numbers(channel, path, number)
    texts = [label for _, _, label in rows]
    numbers = np.array([number for number, _, _ in rows])
    if None in texts:
        return RawArrays(values, lines=numbers)
    labels, classes = encode_labels([_class_name(str(text)) for text in texts], str(path))
    return RawArrays(values, labels, classes, lines=numbers)


Row = tuple[int, list[Sequence[str]], str | None]
"""Line number, cells of each channel, and class of a series."""


def _tsv_rows(lines: Iterable[tuple[int, str]], path: pathlib.Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in lines:
        label, *cells = re.split(r"[\t, ]+", line) if line else [""]
        if line:
            rows.append((number, [cells], label))
    return rows


def _ts_rows(lines: Iterable[tuple[int, str]], path: pathlib.Path) -> list[Row]:
    rows: list[Row] = []
    is_data, is_labelled = False, False
    for number, line in lines:
        if not line or line.startswith(("#", "%")):
            continue
        if not is_data:
            key, _, value = line.lower().partition(" ")
            if key == "@timestamps" and value.strip() == "true":
                remedy = "Write the series as a table with the columns id, t and values"
                raise InputError("series without time stamps", "@timeStamps true", remedy, file=path, row=number)
            is_labelled |= key in ("@classlabel", "@targetlabel") and value.split()[:1] == ["true"]
            is_data = key == "@data"
            continue
        *channels, label = line.split(":") if is_labelled else [*line.split(":"), ""]
        rows.append((number, [channel.split(",") for channel in channels], label if is_labelled else None))
    if not is_data:
        raise InputError("a line @data", "none", file=path)
    return rows


def _arff_rows(lines: Iterable[tuple[int, str]], path: pathlib.Path) -> list[Row]:
    rows: list[Row] = []
    is_data = False
    for number, line in lines:
        if not line or line.startswith("%"):
            continue
        if not is_data:
            is_data = line.lower().startswith("@data")
        elif line[0] in "\"'":  # a relational attribute: one line per channel, with \n in between
            body, _, label = line[1:].rpartition(line[0])
            rows.append((number, [channel.split(",") for channel in body.split("\\n")], label.strip(" ,")))
        else:
            *cells, label = line.split(",")
            rows.append((number, [cells], label.strip()))
    if not is_data:
        raise InputError("a line @data", "none", file=path)
    return rows


def _numbers(cells: Sequence[str], path: pathlib.Path, row: int) -> list[float]:
    """Return the numbers of a channel, NaN for a missing one."""
    numbers = []
    for cell in cells:
        text = cell.strip()
        number = np.nan if text.lower() in MISSING else parse_number(text)
        if number is None or np.isinf(number):
            raise InputError("a finite number, or ? for a missing one", repr(text[:40]), file=path, row=row)
        numbers.append(number)
    return numbers


def _class_name(text: str) -> str:
    """Return the name of a class: a whole number without decimals, so that 1.0 and 1 are equal."""
    number = parse_number(text.strip())
    return str(int(number)) if number is not None and np.isfinite(number) and number % 1 == 0 else text.strip()
