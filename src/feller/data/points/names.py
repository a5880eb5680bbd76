"""What columns are by their names: angles on the earth, angles of molecules."""

import re
from collections.abc import Sequence

LATITUDE = re.compile(r"lat(itude)?", re.IGNORECASE)
LONGITUDE = re.compile(r"(lon|lng|long)(itude)?", re.IGNORECASE)
BACKBONE = ("phi", "psi")
NUCLEIC = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
TORSION = re.compile(r"phi|psi|omega|chi[1-5]?|alpha|beta|gamma|delta|epsilon|zeta|eta|theta", re.IGNORECASE)
UNIT = re.compile(r"[_ ]\(?(deg|rad|degrees|radians)\)?$", re.IGNORECASE)
"""End of a name that says in what a column is measured."""


def unit(name: str) -> str | None:
    """Return `deg` or `rad` where the end of a name says so."""
    found = UNIT.search(name)
    return found[1][:3].lower() if found else None


def _bare(name: str) -> str:
    return UNIT.sub("", name).strip().lower()


def places_among(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are a latitude and a longitude, in their order; none unless there is one of each."""
    found = [[name for name in names if kind.fullmatch(_bare(name))] for kind in (LATITUDE, LONGITUDE)]
    if [len(columns) for columns in found] != [1, 1]:
        return ()
    return tuple(name for name in names if name in (*found[0], *found[1]))


def latitude_among(names: Sequence[str]) -> int:
    """Return which of two columns is the latitude: the first, unless a name says otherwise."""
    first, second = map(_bare, names)
    return 1 if LATITUDE.fullmatch(second) or LONGITUDE.fullmatch(first) else 0


def torsions_among(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are torsion angles: those of a protein or of a nucleic acid, or none.

    Letters like alpha mean many things, so phi and psi, or alpha to zeta, must all be there.
    """
    bare = {_bare(name) for name in names}
    if not (bare.issuperset(BACKBONE) or bare.issuperset(NUCLEIC)):
        return ()
    return tuple(name for name in names if TORSION.fullmatch(_bare(name)))


def all_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Choose no column before others: all are numbers, and complete."""
    return ()
