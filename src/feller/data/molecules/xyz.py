"""Reading and writing of XYZ files: blocks of an atom count, a comment line, and one line per atom."""

import math
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

import numpy as np

from feller.core.errors import InputError
from feller.data.atoms.elements import ISOTOPES, NUMBERS, SYMBOLS
from feller.data.files.plain_text import parse_number, read_letters
from feller.data.molecules.molecule import Molecule

DEFAULT_COLUMNS = (0, 1)
"""Index of the column with the symbol and of the column with x, unless the comment specifies the columns."""
COLUMNS = re.compile(r"\bProperties=(\S+)")
KEY = re.compile(r"[A-Za-z_][^\s=\"]*")
"""Pattern of a key in a comment."""
KEY_VALUE = re.compile(rf"(?:^|\s)({KEY.pattern})=(\"[^\"]*\"|[^\s\"]+)")
"""Pattern of a key and its value in a comment; the value is one word or a quoted string."""
CHARGES = ("charge", "total_charge", "net_charge", "tot_charge")
"""Keys of the total charge in extended XYZ, in lower case."""
READ_KEYS = ("properties", "lattice", "pbc", "origin", *CHARGES)
"""Comment keys that are interpreted, or have no meaning for molecules; they are not reported as ignored."""
OTHER_TEXT = "other text of comments"
DIGITS = 9
"""Maximum number of digits of an atom count."""
QM9 = re.compile(r"gdb[ \t]+\d")
"""Start of a comment in the original QM9 files, where three lines follow the atoms."""
QM9_PROPERTIES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
"""Names of the properties in a QM9 comment, in order, after the number of the molecule."""
QM9_IGNORED = ("frequencies", "SMILES", "InChI")
"""Names of the contents of the three lines below the atoms in QM9 files, which are ignored."""


def read_xyz(path: pathlib.Path) -> Iterator[Molecule]:
    """Yield the molecules of an XYZ file, compressed or not.

    Numeric properties in comments (`mu=1.67`) and the properties of the original QM9 files are kept. The charge is the
    value of `charge=` or `total_charge=` in the comment, otherwise 0. Isotopes of hydrogen count as hydrogen. An
    extended XYZ comment defines the columns. The names of other contents are in `Molecule.ignored_fields`. InputError,
    with the line number, if a line is invalid.
    """
    lines = [line.rstrip("\r") for line in read_letters(path).split("\n")]  # splitlines would split inside comments
    while lines and not lines[-1].strip():
        lines.pop()
    i = 0
    while i < len(lines):
        if lines[i].strip():
            i = yield from _block(lines, i, path)
        else:
            i += 1


def _block(lines: list[str], i: int, path: pathlib.Path) -> Iterator[Molecule]:
    """Yield the molecule whose atom count is in line i; return the index of the line after it."""
    count = _parse_count(lines[i].strip())
    if not count:
        _refuse(path, i, "the number of atoms of a molecule", lines[i], "Check the atom count of the previous molecule")
    start = i + 2
    stop = start + count
    if stop > len(lines):
        raise InputError(
            f"{count} atoms in the molecule that begins here",
            f"{max(0, len(lines) - start)} before the end of the file",
            remedy="Download the file again, or remove the molecule",
            file=path,
            place=f"line {i + 1}",
        )
    comment = lines[i + 1]
    columns, unused = _columns(comment, path, i + 1)
    atoms, coords = zip(*(_atom(lines[k], columns, path, k) for k in range(start, stop)), strict=True)
    properties, ignored = _properties(comment)
    charge = _charge(comment, path, i + 1)
    name = f"{path.name}: line {i + 1}"
    yield Molecule(
        name, np.array(atoms), np.array(coords), charge, properties=properties, ignored_fields=(*unused, *ignored)
    )
    return stop + 3 * bool(QM9.match(comment))


def _properties(comment: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the numeric properties in a comment, and the names of its other fields."""
    if QM9.match(comment):
        pairs: Iterable[tuple[str, str]] = zip(QM9_PROPERTIES, comment.split()[2:], strict=False)
        other_text, ignored = "", QM9_IGNORED
    else:
        pairs, other_text, ignored = KEY_VALUE.findall(comment), KEY_VALUE.sub("", comment).strip(), ()
    fields = {name: parse_number(text.strip('"').replace("*^", "e")) for name, text in pairs}
    numeric = {name: value for name, value in fields.items() if value is not None and math.isfinite(value)}
    non_numeric = [name for name in fields if name not in numeric and name.lower() not in READ_KEYS]
    return numeric, (*non_numeric, *ignored, *([OTHER_TEXT] if other_text else []))


def _charge(comment: str, path: pathlib.Path, i: int) -> int:
    """Return the charge in a comment, in electron charges; 0 if there is none."""
    for name, text in () if QM9.match(comment) else KEY_VALUE.findall(comment):
        if name.lower() in CHARGES:
            value = parse_number(text.strip('"'))
            if value is None or value != round(value):
                _refuse(
                    path, i, f"{name}=NUMBER, an integer charge", f"{name}={text}", "Correct or remove the molecule"
                )
            return round(value)
    return 0


def _parse_count(text: str) -> int | None:
    """Parse a count of at most `DIGITS` digits; None for other text."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= DIGITS else None


def _columns(comment: str, path: pathlib.Path, i: int) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Return the columns of an XYZ file: indices of the element symbol and the x coordinate, and names of the others.

    They follow from `Properties=` in the comment line, or are the usual ones.
    """
    match = COLUMNS.search(comment)
    if not match:
        return DEFAULT_COLUMNS, ()
    fields = match[1].strip('"').split(":")
    names, widths = fields[::3], [_parse_count(field) or 0 for field in fields[2::3]]
    if len(fields) % 3 or not all(widths) or not {"species", "pos"} <= set(names):
        _refuse(path, i, "Properties=NAME:KIND:WIDTH:... with species and pos", match[0], "Correct or remove it")
    offsets = {name: sum(widths[:k]) for k, name in enumerate(names)}
    return (offsets["species"], offsets["pos"]), tuple(name for name in names if name not in ("species", "pos"))


def _atom(line: str, columns: tuple[int, int], path: pathlib.Path, i: int) -> tuple[int, list[float]]:
    """Return the atomic number and coordinates in a line."""
    cells = line.split()
    numbers = (parse_number(cell.replace("*^", "e")) for cell in cells[columns[1] : columns[1] + 3])
    coords = [value for value in numbers if value is not None and math.isfinite(value)]
    if len(coords) < 3 or len(cells) <= columns[0]:
        _refuse(path, i, "a symbol and three numbers", line, "Correct or remove it")
    return _number(cells[columns[0]], path, i), coords


def _number(symbol: str, path: pathlib.Path, i: int) -> int:
    """Return the atomic number of a symbol, or of a number given as text."""
    name = symbol.capitalize()
    count = _parse_count(name)
    name = SYMBOLS[count] if count and count < len(SYMBOLS) else ISOTOPES.get(name, name)
    if name not in NUMBERS:
        raise InputError(
            "a chemical element", f"{symbol!r:.40}", "Correct or remove the molecule", file=path, place=f"line {i + 1}"
        )
    return NUMBERS[name]


def _refuse(path: pathlib.Path, i: int, expected: str, line: str, remedy: str) -> NoReturn:
    raise InputError(expected, repr(line[:60]), remedy, file=path, place=f"line {i + 1}")


def xyz_text(molecules: Iterable[Molecule]) -> str:
    """Return the text of an XYZ file with the molecules; comments hold their properties, such as `gap=0.25`.

    Properties whose names have blanks, quotes or equals signs cannot be written.
    """
    lines = []
    for molecule in molecules:
        pairs = [f"{name}={value!r}" for name, value in molecule.properties.items() if KEY.fullmatch(name)]
        lines += [str(len(molecule.atomic_numbers)), " ".join(pairs)]
        for atom, (x, y, z) in zip(molecule.atomic_numbers.tolist(), molecule.positions.tolist(), strict=True):
            lines.append(f"{SYMBOLS[atom]:<2} {x:12.6f} {y:12.6f} {z:12.6f}")
    return "\n".join([*lines, ""])
