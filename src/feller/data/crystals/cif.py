"""CIF: read a data block to a crystal, and write it."""

import functools
import importlib.util
import re
import urllib.parse
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from feller.core.errors import InputError, UsageError
from feller.data.atoms.elements import ISOTOPES, NUMBERS, SYMBOLS, counts, formula
from feller.data.crystals.lattice import LONGEST, SHORTEST, closes, vectors, volume
from feller.data.files.plain_text import number


class Crystal(NamedTuple):
    """A cell and what is in it."""

    numbers: np.ndarray
    """Atomic number of each site, [l]."""
    places: np.ndarray
    """Fractional coordinates, [l, 3]."""
    lattice: np.ndarray
    """Edges a, b, c in Å, and angles alpha, beta, gamma in degrees, [6]."""
    label: str | None = None
    """Name of its class, where it has one."""
    told: Mapping[str, float] = MappingProxyType({})
    """Numbers that the file tells of it."""


LABEL = "_feller_label"
"""Data name of the class of a crystal, in our own files."""
CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
PLAIN = ("?", ".", "P 1", "P1")
"""Names of no symmetry."""
SITE = "_atom_site_"
PLACES = ("fract_x", "fract_y", "fract_z")
SAME = 0.05
"""Distance in Å below which two images of one site under symmetry are the same atom."""
FARTHEST = 1000.0
"""Greatest fractional coordinate, which is brought into the cell."""
FULL = 0.01
"""By how much an occupancy may differ from 1."""
_FIELD_OR_HEAD = re.compile(r"^;.*?^;|^[ \t]*(?P<head>data_)", re.MULTILINE | re.DOTALL | re.IGNORECASE)
"""A field of text, in which nothing begins, or the head of a block."""
_TOKEN = re.compile(
    r"""^;.*?^;|\#[^\n]*|'(?:[^'\n]|'(?=\S))*'(?=\s|$)|"(?:[^"\n]|"(?=\S))*"(?=\s|$)|\S+""", re.M | re.S
)
"""A value, name or remark."""
_ENDS_LOOP = re.compile(r"_|loop_|data_|save_|global_|stop_", re.IGNORECASE)
"""What a token begins with that is no value of a loop; a value in quotes begins with these."""


class PartialError(Exception):
    """A site holds an atom only sometimes, which a state cannot say."""


def need_pymatgen() -> None:
    """Refuse to go on without pymatgen."""
    if importlib.util.find_spec("pymatgen") is None:
        raise UsageError("reading CIF needs pymatgen: pip install 'feller[crystals]'")


def blocks(text: str) -> list[str]:
    """Cut a file into its data blocks that hold atoms; others only tell about the file."""
    heads = [match for match in _FIELD_OR_HEAD.finditer(text) if match["head"]]
    ends = [*(head.start() for head in heads[1:]), len(text)]
    found = [text[head.end() : end] for head, end in zip(heads, ends, strict=True)] if heads else []
    return [f"data_{block}" for block in found if SITE in block.lower() or "_cell_length_a" in block.lower()]


def read_block(text: str) -> tuple[Crystal, bool]:
    """Read the atoms of one block, in the order of the file; each is followed by its images under symmetry.

    Returns:
        The crystal, and whether isotopes were taken as their element.

    Raises:
        InputError: If the cell or the atoms are missing or damaged.
        PartialError: If an occupancy is not 1.
    """
    need_pymatgen()
    from pymatgen.io.cif import CifBlock

    if not text.startswith("data_"):
        got = repr(text.strip()[:40]) if text.strip() else "nothing"
        raise InputError(f"expected a block of CIF, which begins with data_, got {got}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            block = CifBlock.from_str(text)
        except Exception as error:  # pymatgen raises many kinds on damaged text
            raise InputError(
                _uneven_loop(text) or f"expected CIF, got text that is none: {_first_line(error)}"
            ) from error
        data = {name.lower(): value for name, value in block.data.items()}
        lattice = np.array([_number(data.get(f"_cell_{name}"), f"_cell_{name}") for name in CELL])
        if not closes(torch.from_numpy(lattice)[None])[0]:
            raise InputError(f"expected a cell with a volume, got {', '.join(f'{value:g}' for value in lattice)}")
        if not all(SHORTEST <= length <= LONGEST for length in lattice[:3].tolist()):
            got = ", ".join(f"{length:g}" for length in lattice[:3])
            raise InputError(f"expected edges of {SHORTEST:g} to {LONGEST:,g} Å, got {got}")
        symbols, places, isotopes = _sites(data)
        rotations, shifts = _operations(data, block)
    numbers = np.array([NUMBERS[symbol] for symbol in symbols])
    if len(rotations) > 1:
        images = [_images(place, rotations, shifts, lattice) for place in places]
        numbers, places = np.repeat(numbers, [len(image) for image in images]), np.concatenate(images)
    label = data.get(LABEL)
    label = urllib.parse.unquote(label) if isinstance(label, str) else None
    return Crystal(numbers, wrapped(places), lattice, label), isotopes


def _uneven_loop(text: str) -> str:
    """Say which loop has no whole number of rows; empty where all have."""
    tokens = [token for token in _TOKEN.findall(text) if not token.startswith("#")]
    at = 0
    while at < len(tokens):
        at += 1
        if tokens[at - 1].lower() != "loop_":
            continue
        head = at
        while at < len(tokens) and tokens[at].startswith("_"):
            at += 1
        names, first = tokens[head:at], at
        while at < len(tokens) and not _ENDS_LOOP.match(tokens[at]):
            at += 1
        if names and (at - first) % len(names):
            return (
                f"expected rows of {len(names)} values in the loop of {names[0]}, got {at - first} values, of which"
                f" {(at - first) % len(names)} are left over; add the missing value, or ? for it"
            )
    return ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:100]


def wrapped(places: np.ndarray) -> np.ndarray:
    """Bring fractional coordinates into [0, 1); a rounded remainder can be 1 itself."""
    places = places % 1.0
    return np.where(places >= 1, 0.0, places)


def _number(value: Any, name: str) -> float:
    """Read a number, whose last digits may be followed by their uncertainty in brackets."""
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(text, str):
        raise InputError(f"expected one number {name}, got {'none' if value is None else f'{len(value)} of them'}")
    found = number(re.sub(r"\(\d*\)?$", "", text))
    if found is None or not np.isfinite(found):
        raise InputError(f"expected a number {name}, got {text[:40]!r}")
    return found


def _column(data: dict[str, Any], name: str) -> list[str] | None:
    value = data.get(SITE + name)
    return [value] if isinstance(value, str) else value


def _sites(data: dict[str, Any]) -> tuple[list[str], np.ndarray, bool]:
    """Return symbols and fractional coordinates [l, 3] of the sites that the file lists."""
    columns = [_column(data, name) for name in PLACES]
    types = _column(data, "type_symbol")
    names = types or _column(data, "label")
    if not names or not all(columns):
        wanted = ", ".join(SITE + name for name in ("type_symbol", *PLACES))
        raise InputError(f"expected atoms with {wanted}, got {'no symbols' if all(columns) else 'no such places'}")
    occupancy = _column(data, "occupancy") or ["1"] * len(names)
    rows = [names, *(column or [] for column in columns), occupancy]
    if len({*map(len, rows)}) > 1:
        called = ("type_symbol" if types else "label", *PLACES, "occupancy")
        got = ", ".join(f"{len(row)} {SITE}{name}" for row, name in zip(rows, called, strict=True))
        raise InputError(f"expected as many of each column of atoms, got {got}")
    cells = zip(*rows[1:-1], strict=True)
    places = np.array([[_number(cell, SITE + name) for cell, name in zip(row, PLACES, strict=True)] for row in cells])
    if np.abs(places).max() > FARTHEST:
        raise InputError(f"expected fractional coordinates up to {FARTHEST:,g}, got {np.abs(places).max():g}")
    for cell in occupancy:
        if cell not in (".", "?") and abs(_number(cell, SITE + "occupancy") - 1) > FULL:
            raise PartialError
    symbols = [_element(name, longest=99 if types else 2) for name in names]
    plain = [ISOTOPES.get(symbol, symbol) for symbol in symbols]
    return plain, places, not ISOTOPES.keys().isdisjoint(symbols)


def _element(name: str, longest: int) -> str:
    """Find the element of a type, such as Fe3+, all of whose letters count; or of a label, such as CL1 or Ow."""
    letters = re.split(r"[^A-Za-z]", name, maxsplit=1)[0]
    for symbol in (letters[:longest].title(), *([letters[:1].upper()] if longest == 2 else [])):
        if symbol in NUMBERS or symbol in ISOTOPES:
            return symbol
    raise InputError(f"there is no element {name[:20]!r}")


@functools.cache
def _settings() -> dict[str, int]:
    """Number spglib's settings of space groups by their Hall symbols."""
    import spglib

    kinds = map(spglib.get_spacegroup_type, range(1, 531))
    return {_hall(kind.hall_symbol): n for n, kind in enumerate(kinds, 1) if kind}


def _hall(symbol: str) -> str:
    return " ".join(symbol.replace("_", " ").lower().split())


def _by_hall(data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the symmetry of the group's Hall symbol, which also says where the origin is; None where none is known."""
    import spglib

    settings = (_settings().get(_hall(str(data.get(name)))) for name in HALL)
    setting = next(filter(None, settings), None)
    found = setting and spglib.get_symmetry_from_database(setting)
    return (found["rotations"].astype(np.float64), found["translations"]) if found else None


def _operations(data: dict[str, Any], block: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations [k, 3, 3] and shifts [k, 3] of the symmetry, listed or known by the group's name."""
    named = [value for name, value in data.items() if "space_group_name" in name and value not in PLAIN]
    listed = next((data[name] for name in OPERATIONS if data.get(name)), None)
    listed = [listed] if isinstance(listed, str) else listed
    if listed and [re.sub(r"[\s+]", "", each).lower() for each in listed] == ["x,y,z"]:
        return np.eye(3)[None], np.zeros((1, 3))
    symmetry = None if listed else _by_hall(data)
    if symmetry is not None:
        return symmetry
    from pymatgen.io.cif import CifParser

    try:
        found = CifParser.from_str("").get_symops(block)
    except Exception as error:  # as above
        raise InputError(f"expected operations of symmetry, got others ({' '.join(str(error).split())})") from error
    if (listed and len(found) != len(listed)) or (named and not listed and len(found) == 1):
        raise InputError(f"expected operations of symmetry, got {(listed or named)[0]!r:.40}, which says none")
    return np.array([each.rotation_matrix for each in found]), np.array([each.translation_vector for each in found])


def _images(place: np.ndarray, rotations: np.ndarray, shifts: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Return where symmetry brings a site, each place once, [k, 3]."""
    edges, kept = vectors(torch.from_numpy(lattice)[None])[0].numpy(), np.empty((0, 3))
    for image in wrapped(rotations @ place + shifts):
        apart = kept - image
        if not (np.linalg.norm((apart - np.round(apart)) @ edges, axis=1) < SAME).any():
            kept = np.concatenate([kept, image[None]])
    return kept


def cif_text(crystal: Crystal, name: str) -> str:
    """Return a data block without symmetry, which lists every atom."""
    lattice = crystal.lattice.tolist()
    size = volume(torch.from_numpy(crystal.lattice)[None]).item()
    parts = " ".join(f"{symbol}{count}" for symbol, count in counts(crystal.numbers).items())
    lines = [f"data_{name}", "_symmetry_space_group_name_H-M   'P 1'", "_symmetry_Int_Tables_number   1"]
    lines += [f"_cell_{key}   {value:.8f}" for key, value in zip(CELL, lattice, strict=True)]
    lines += [f"_chemical_formula_structural   {formula(crystal.numbers)}", f"_chemical_formula_sum   '{parts}'"]
    lines += [f"_cell_volume   {size:.8f}", "_cell_formula_units_Z   1"]
    lines += [] if crystal.label is None else [f"{LABEL}   '{urllib.parse.quote(crystal.label, safe='')}'"]
    lines += ["loop_", " _symmetry_equiv_pos_as_xyz", "  'x, y, z'", "loop_"]
    lines += [f" {SITE}{key}" for key in ("type_symbol", "label", *PLACES, "occupancy")]
    for i, (atom, place) in enumerate(zip(crystal.numbers.tolist(), crystal.places.tolist(), strict=True)):
        x, y, z = (f"{value:.8f}" for value in place)
        lines.append(f"  {SYMBOLS[atom]}  {SYMBOLS[atom]}{i}  {x}  {y}  {z}  1")
    return "\n".join([*lines, ""])
