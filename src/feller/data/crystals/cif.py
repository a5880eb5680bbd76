"""Reading of crystals from CIF with gemmi, and writing of CIF."""

import re
import urllib.parse
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.data.atoms.elements import ISOTOPES, NUMBERS, SYMBOLS, counts, formula
from feller.data.crystals.lattice import LONGEST, SHORTEST, is_valid_cell, vectors, volume


class Crystal(NamedTuple):
    """Crystal: a unit cell and its atoms."""

    atomic_numbers: np.ndarray
    """Atomic number of each site, [l]."""
    frac_coords: np.ndarray
    """Fractional coordinates of each site, [l, 3]."""
    lattice: np.ndarray
    """Lengths a, b, c in Å and angles alpha, beta, gamma in degrees, [6]."""
    label: str | None = None
    """Class name; None without a label."""
    properties: Mapping[str, float] = MappingProxyType({})
    """Numeric properties of the crystal in the file, by name."""


LABEL = "_feller_label"
"""CIF data name of the class label in files written by feller."""
PROPERTY = "_feller_property_"
"""Start of the CIF data name of a numeric property in files written by feller."""
CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
GROUPS = ("_symmetry_space_group_name_H-M", "_space_group_name_H-M_alt")
NUMBERED = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
SITE = "_atom_site_"
PLACES = ("fract_x", "fract_y", "fract_z")
MAX_IMAGE_DISTANCE = 0.05
"""Distance in Å below which two symmetry images of a site are the same atom."""
MAX_COORDINATE = 1000.0
"""Maximum absolute fractional coordinate in a file; coordinates are then wrapped into the cell."""
OCCUPANCY_TOLERANCE = 0.01
"""Maximum deviation from 1 of the occupancy of a fully occupied site."""


class PartialOccupancyError(Exception):
    """Error for a partially occupied site, which a state cannot represent."""


def _gemmi() -> Any:
    return require_package("gemmi", "reading CIF", "crystals")


def read_blocks(text: str) -> list[Any]:
    """Return the blocks of a CIF text that hold a cell and atoms, as gemmi blocks.

    InputError, with line and column, if the text is not CIF or has no such block; UsageError if gemmi is not installed.
    """
    gemmi = _gemmi()
    try:
        document = gemmi.cif.read_string(text, check_level=0)  # block names may repeat
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).removeprefix("string:").split())
        raise InputError("CIF text, which starts with data_", f"{_beginning(text)} ({reason[:100]})") from error
    blocks = [block for block in document if block.find_values(f"{SITE}fract_x") or block.find_value("_cell_length_a")]
    if not blocks:
        raise InputError("a CIF block with a cell and atoms", _beginning(text))
    return blocks


def _beginning(text: str) -> str:
    return repr(text.strip()[:40]) if text.strip() else "nothing"


def read_crystal(block: Any) -> tuple[Crystal, bool]:
    """Return the crystal of a CIF block; atoms are in file order, each followed by its symmetry images.

    Returns:
        The crystal, and True if isotopes were replaced by their element.

    Raises:
        InputError: If the cell or the atoms are missing or invalid.
        PartialOccupancyError: If an occupancy is not 1.
    """
    lattice = np.array([_number(block.find_value(f"_cell_{name}"), f"_cell_{name}") for name in CELL])
    if not is_valid_cell(torch.from_numpy(lattice)[None])[0]:
        raise InputError("a unit cell with positive volume", ", ".join(f"{value:g}" for value in lattice))
    if not all(SHORTEST <= length <= LONGEST for length in lattice[:3].tolist()):
        lengths = ", ".join(f"{length:g}" for length in lattice[:3])
        raise InputError(f"lattice lengths of {SHORTEST:g} to {LONGEST:,g} Å", lengths)
    symbols, coords = _sites(block)
    atomic_numbers = np.array([NUMBERS[ISOTOPES.get(symbol, symbol)] for symbol in symbols])
    rotations, translations = _operations(block, lattice)
    if len(rotations) > 1:
        images = [_images(site, rotations, translations, lattice) for site in coords]
        atomic_numbers, coords = np.repeat(atomic_numbers, [len(image) for image in images]), np.concatenate(images)
    label = block.find_value(LABEL)
    label = None if label is None else urllib.parse.unquote(_plain(label))
    crystal = Crystal(atomic_numbers, wrap_coords(coords), lattice, label, _properties(block))
    return crystal, not ISOTOPES.keys().isdisjoint(symbols)


def _properties(block: Any) -> dict[str, float]:
    """Return the properties in a CIF block that feller wrote."""
    pairs = [item.pair for item in block if item.pair is not None and item.pair[0].startswith(PROPERTY)]
    return {urllib.parse.unquote(name.removeprefix(PROPERTY)): _number(value, name) for name, value in pairs}


def wrap_coords(places: np.ndarray) -> np.ndarray:
    """Wrap fractional coordinates into [0, 1), also where `%` rounds a remainder up to 1."""
    places = places % 1.0
    return np.where(places >= 1, 0.0, places)


def _plain(value: str) -> str:
    """Strip the quotes of a CIF value."""
    return _gemmi().cif.as_string(value)


def _number(value: str | None, name: str) -> float:
    """Parse a CIF number such as 5.43(2), without the uncertainty in brackets; `name` is its data name in errors."""
    parsed = float("nan") if value is None else _gemmi().cif.as_number(_plain(value))
    if not np.isfinite(parsed):
        raise InputError(f"a number for {name}", "none" if value is None else f"{value[:40]!r}")
    return parsed


def _sites(block: Any) -> tuple[list[str], np.ndarray]:
    """Return element symbols and fractional coordinates [l, 3] of the sites listed in a CIF block."""
    table = block.find(SITE, [*PLACES, "?type_symbol", "?label", "?occupancy"])
    symbol_column = next((i for i in (3, 4) if len(table) and table.has_column(i)), None)
    if symbol_column is None:
        columns = ", ".join(SITE + name for name in (*PLACES, "type_symbol"))
        raise InputError(f"atoms in one loop with {columns}", "no element symbols" if len(table) else "none")
    rows = [[row.str(symbol_column), *(row[i] for i in range(3)), row[5] if row.has(5) else "1"] for row in table]
    coords = np.array([[_number(row[1 + i], SITE + name) for i, name in enumerate(PLACES)] for row in rows])
    if np.abs(coords).max() > MAX_COORDINATE:
        raise InputError(f"fractional coordinates up to {MAX_COORDINATE:,g}", f"{np.abs(coords).max():g}")
    if any(
        row[4] not in (".", "?") and abs(_number(row[4], f"{SITE}occupancy") - 1) > OCCUPANCY_TOLERANCE for row in rows
    ):
        raise PartialOccupancyError
    return [_element(row[0], max_length=99 if symbol_column == 3 else 2) for row in rows], coords


def _element(name: str, max_length: int) -> str:
    """Return the element of a type symbol such as Fe3+, or of a site label such as CL1 or Ow.

    `max_length` is the largest number of letters of the element; with 2, one letter is tried if two are no element.
    """
    letters = re.split(r"[^A-Za-z]", name, maxsplit=1)[0]
    for symbol in (letters[:max_length].title(), *([letters[:1].upper()] if max_length == 2 else [])):
        if symbol in NUMBERS or symbol in ISOTOPES:
            return symbol
    raise InputError("an element symbol", f"{name[:20]!r}")


def _operations(block: Any, lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the symmetry operations of a CIF block: rotations [k, 3, 3] and translations [k, 3].

    They are those that the block lists, else those of its space group, else the identity only.
    """
    gemmi = _gemmi()
    listed = next((ops for name in OPERATIONS if (ops := [_plain(text) for text in block.find_values(name)])), None)
    hall, name, number = (_first(block, keys) for keys in (HALL, GROUPS, NUMBERED))
    try:
        if listed:
            operations = [gemmi.Op(op) for op in listed]
        elif hall:
            operations = [*gemmi.symops_from_hall(hall)]
        elif name or number:
            by_name = gemmi.find_spacegroup_by_name(name, *lattice[[3, 5]].tolist()) if name else None
            operations = [*(by_name or gemmi.get_spacegroup_reference_setting(int(number))).operations()]
        else:
            operations = [gemmi.Op("x,y,z")]
    except (RuntimeError, ValueError, AttributeError) as error:
        given = listed or hall or name or number
        raise InputError("valid symmetry operations or a space group", f"{given!r:.60}") from error
    denominator = gemmi.Op.DEN
    return (
        np.array([op.rot for op in operations], dtype=np.float64) / denominator,
        np.array([op.tran for op in operations], dtype=np.float64) / denominator,
    )


def _first(block: Any, keys: tuple[str, ...]) -> str:
    """Return the first non-empty value that a CIF block has for one of several data names."""
    values = (block.find_value(key) for key in keys)
    return next((text for value in values if value and (text := _plain(value))), "")


def _images(site: np.ndarray, rotations: np.ndarray, translations: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Return the distinct symmetry images of a site, [k, 3]."""
    edges, distinct = vectors(torch.from_numpy(lattice)[None])[0].numpy(), np.empty((0, 3))
    for image in wrap_coords(rotations @ site + translations):
        difference = distinct - image
        if not (np.linalg.norm((difference - np.round(difference)) @ edges, axis=1) < MAX_IMAGE_DISTANCE).any():
            distinct = np.concatenate([distinct, image[None]])
    return distinct


def cif_text(crystal: Crystal, name: str) -> str:
    """Return a crystal as a CIF block in space group P1, with every atom listed, and with its properties."""
    lattice = crystal.lattice.tolist()
    cell_volume = volume(torch.from_numpy(crystal.lattice)[None]).item()
    terms = " ".join(f"{symbol}{count}" for symbol, count in counts(crystal.atomic_numbers).items())
    lines = [f"data_{name}", "_symmetry_space_group_name_H-M   'P 1'", "_symmetry_Int_Tables_number   1"]
    lines += [f"_cell_{key}   {value:.8f}" for key, value in zip(CELL, lattice, strict=True)]
    lines += [f"_chemical_formula_structural   {formula(crystal.atomic_numbers)}", f"_chemical_formula_sum   '{terms}'"]
    lines += [f"_cell_volume   {cell_volume:.8f}", "_cell_formula_units_Z   1"]
    lines += [] if crystal.label is None else [f"{LABEL}   '{urllib.parse.quote(crystal.label, safe='')}'"]
    lines += [f"{PROPERTY}{urllib.parse.quote(key, safe='')}   {x!r}" for key, x in crystal.properties.items()]
    lines += ["loop_", " _symmetry_equiv_pos_as_xyz", "  'x, y, z'", "loop_"]
    lines += [f" {SITE}{key}" for key in ("type_symbol", "label", *PLACES, "occupancy")]
    for i, (atom, site) in enumerate(zip(crystal.atomic_numbers.tolist(), crystal.frac_coords.tolist(), strict=True)):
        x, y, z = (f"{value:.8f}" for value in site)
        lines.append(f"  {SYMBOLS[atom]}  {SYMBOLS[atom]}{i}  {x}  {y}  {z}  1")
    return "\n".join([*lines, ""])
