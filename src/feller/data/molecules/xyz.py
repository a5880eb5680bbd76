"""Molecules in XYZ files: a number of atoms, a line of comment, and a line for each atom, again and again."""

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
"""Columns of the symbol and of the first coordinate, where the comment does not tell."""
COLUMNS = re.compile(r"\bProperties=(\S+)")
KEY_VALUE = re.compile(r"(?:^|\s)([A-Za-z_][^\s=\"]*)=(\"[^\"]*\"|[^\s\"]+)")
"""A name and what is told under it, one word or what stands in quotes."""
CHARGES = ("charge", "total_charge", "net_charge", "tot_charge")
"""Names of the charge of a molecule in extended files, in small letters."""
READ_KEYS = ("properties", "lattice", "pbc", "origin", *CHARGES)
"""Names in comments of extended files that are read, or that say nothing of a molecule by itself."""
OTHER_TEXT = "other text of comments"
DIGITS = 9
"""Of a count, at most."""
QM9 = re.compile(r"gdb[ \t]+\d")
"""How comments begin in the files that QM9 came as: three lines follow the atoms there."""
QM9_PROPERTIES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
"""What is told there behind the number of the molecule, in this order."""
QM9_IGNORED = ("frequencies", "SMILES", "InChI")
"""What the three lines below the atoms hold there."""


def read_xyz(path: pathlib.Path) -> Iterator[Molecule]:
    """Yield the molecules of a file, packed or not; what else stands there is named in `Molecule.ignored_fields`.

    Numbers that comments tell, as in `mu=1.67`, are kept, and those of QM9's own files under their usual names. The
    charge is that of `charge=` or `total_charge=` in the comment, else 0.

    Hydrogen's isotopes count as hydrogen. Extended files say in their comments which columns count. InputError if a
    line is damaged or missing; says which.
    """
    lines = [line.rstrip("\r") for line in read_letters(path).split("\n")]  # other line ends may be part of a letter
    while lines and not lines[-1].strip():
        lines.pop()
    at = 0
    while at < len(lines):
        if lines[at].strip():
            at = yield from _block(lines, at, path)
        else:
            at += 1


def _block(lines: list[str], at: int, path: pathlib.Path) -> Iterator[Molecule]:
    """Yield the molecule that begins in a line, and return where the next one does."""
    count = _parse_count(lines[at].strip())
    if not count:
        _refuse(path, at, "the number of atoms of a molecule", lines[at], "Does the one before it name too few?")
    first = at + 2
    last = first + count
    if last > len(lines):
        raise InputError(
            f"a molecule of {count} atoms begins here, but the file ends after {max(0, len(lines) - first)} of them",
            remedy="Fetch the file again, or drop the molecule",
            file=path,
            place=f"line {at + 1}",
        )
    comment = lines[at + 1]
    columns, others = _columns(comment, path, at + 1)
    atoms, places = zip(*(_atom(lines[i], columns, path, i) for i in range(first, last)), strict=True)
    properties, aside = _properties(comment)
    charge = _charge(comment, path, at + 1)
    name = f"{path.name}: line {at + 1}"
    yield Molecule(
        name, np.array(atoms), np.array(places), charge, properties=properties, ignored_fields=(*others, *aside)
    )
    return last + 3 * bool(QM9.match(comment))


def _properties(comment: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the numbers that a comment tells, and what else it tells."""
    if QM9.match(comment):
        pairs: Iterable[tuple[str, str]] = zip(QM9_PROPERTIES, comment.split()[2:], strict=False)
        rest, aside = "", QM9_IGNORED
    else:
        pairs, rest, aside = KEY_VALUE.findall(comment), KEY_VALUE.sub("", comment).strip(), ()
    read = {name: parse_number(word.strip('"').replace("*^", "e")) for name, word in pairs}
    numbers = {name: value for name, value in read.items() if value is not None and math.isfinite(value)}
    texts = [name for name in read if name not in numbers and name.lower() not in READ_KEYS]
    return numbers, (*texts, *aside, *([OTHER_TEXT] if rest else []))


def _charge(comment: str, path: pathlib.Path, at: int) -> int:
    """Return the charge that a comment tells in electron charges, 0 where it tells none."""
    for name, word in () if QM9.match(comment) else KEY_VALUE.findall(comment):
        if name.lower() in CHARGES:
            value = parse_number(word.strip('"'))
            if value is None or value != round(value):
                _refuse(path, at, f"{name}=NUMBER, a whole charge", f"{name}={word}", "Mend or drop that molecule")
            return round(value)
    return 0


def _parse_count(text: str) -> int | None:
    """Return a number of usual length that is counted with."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= DIGITS else None


def _columns(comment: str, path: pathlib.Path, at: int) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Return where the symbol and the first coordinate stand, and what the other columns are called."""
    match = COLUMNS.search(comment)
    if not match:
        return DEFAULT_COLUMNS, ()
    parts = match[1].strip('"').split(":")
    names, widths = parts[::3], [_parse_count(part) or 0 for part in parts[2::3]]
    if len(parts) % 3 or not all(widths) or not {"species", "pos"} <= set(names):
        _refuse(path, at, "Properties=NAME:KIND:WIDTH:... with species and pos", match[0], "Mend it or take it away")
    place = {name: sum(widths[:i]) for i, name in enumerate(names)}
    return (place["species"], place["pos"]), tuple(name for name in names if name not in ("species", "pos"))


def _atom(line: str, columns: tuple[int, int], path: pathlib.Path, at: int) -> tuple[int, list[float]]:
    """Return atomic number and place."""
    cells = line.split()
    read = (parse_number(cell.replace("*^", "e")) for cell in cells[columns[1] : columns[1] + 3])
    places = [place for place in read if place is not None and math.isfinite(place)]
    if len(places) < 3 or len(cells) <= columns[0]:
        _refuse(path, at, "a symbol and three numbers", line, "Mend or drop it")
    return _number(cells[columns[0]], path, at), places


def _number(symbol: str, path: pathlib.Path, at: int) -> int:
    """Return the atomic number of a symbol, or of what is a number already."""
    name = symbol.capitalize()
    count = _parse_count(name)
    name = SYMBOLS[count] if count and count < len(SYMBOLS) else ISOTOPES.get(name, name)
    if name not in NUMBERS:
        raise InputError(
            f"no element is called {symbol!r:.40}",
            remedy="Mend or drop that molecule",
            file=path,
            place=f"line {at + 1}",
        )
    return NUMBERS[name]


def _refuse(path: pathlib.Path, at: int, expected: str, line: str, hint: str) -> NoReturn:
    raise InputError(expected, repr(line[:60]), hint, file=path, place=f"line {at + 1}")


def xyz_text(molecules: Iterable[Molecule]) -> str:
    """Return a file with molecules one after another."""
    lines = []
    for molecule in molecules:
        lines += [str(len(molecule.atomic_numbers)), ""]
        for atom, (x, y, z) in zip(molecule.atomic_numbers.tolist(), molecule.positions.tolist(), strict=True):
            lines.append(f"{SYMBOLS[atom]:<2} {x:12.6f} {y:12.6f} {z:12.6f}")
    return "\n".join([*lines, ""])
