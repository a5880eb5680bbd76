"""JSON lines of chains, one object a line, as sets of inverse folding have them."""

import json
from collections.abc import Sequence

import numpy as np

from feller.core.errors import InputError
from feller.data.files import sample_folder
from feller.data.proteins.pdb import ATOMS, Chain
from feller.data.proteins.residues import numbers_of


def parse(line: str, number: int, where: str) -> Chain:
    """Read one JSON object with `coords`, a list of places for each atom, null where one is missing, and maybe `seq`.

    Args:
        line: What stands there.
        number: Of the line, which names a chain that has no name.
        where: File and line, for errors.

    Raises:
        InputError: If the line is damaged, or if there are not as many letters as residues.
    """
    try:
        found = json.loads(line)
        coords = found["coords"]
        columns = [[_triple(place) for place in coords[name]] for name in ATOMS]
        atoms = np.array(columns, dtype=np.float64).reshape(len(ATOMS), -1, 3)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        hint = f"expected an object with coords of {', '.join(ATOMS)}, each a list of [x, y, z] or null"
        raise InputError(f"{where}: {hint}, got {line[:40]!r} ({type(error).__name__})") from error
    atoms[np.isinf(atoms)] = np.nan
    name = str(found.get("name", f"line {number}"))
    return Chain(name, atoms.swapaxes(0, 1), _sequence(found.get("seq"), atoms.shape[1], where))


def _sequence(seq: object, length: int, where: str) -> np.ndarray:
    """Return the numbers of the residues in `seq`; -1 for all where there is none."""
    if seq is None:
        return np.full(length, -1)
    if not (isinstance(seq, str) and seq.isascii() and all(letter.isalpha() or letter in "-?*." for letter in seq)):
        raise InputError(
            f"{where}: expected seq to be one letter for each residue, such as ACDE, got {str(seq)[:40]!r}"
        )
    if len(seq) != length:
        raise InputError(
            f"{where}: expected as many letters in seq as there are residues in coords, got {len(seq)} and {length};"
            " write X for a residue that is not known"
        )
    return numbers_of(seq)


def json_lines(chains: list[np.ndarray], sequences: Sequence[str] | None = None) -> str:
    """Write one object a line, with the places in Å of each atom under its name, as sets of inverse folding do."""
    lines = []
    for i, atoms in enumerate(chains):
        name = f"sample-{i + sample_folder.first():05}"
        coords = dict(zip(ATOMS, atoms.round(3).swapaxes(0, 1).tolist(), strict=True))
        told = {} if sequences is None else {"seq": sequences[i]}
        lines.append(json.dumps({"name": name, **told, "coords": coords}) + "\n")
    return "".join(lines)


def _triple(place: list[float | None] | None) -> list[float]:
    if place is None:
        return [np.nan] * 3
    x, y, z = place
    return [np.nan if value is None else float(value) for value in (x, y, z)]
