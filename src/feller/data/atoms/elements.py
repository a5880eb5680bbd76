"""Chemical elements: symbols, atomic numbers, colours, radii, formulas and minimal distances."""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import RawCrystals, RawMolecules

_ROWS = """
H He
Li Be B C N O F Ne
Na Mg Al Si P S Cl Ar
K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe
Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
SYMBOLS = ("", *_ROWS.split())
"""Element symbols, indexed by atomic number; index 0 stands for padding."""
NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}
"""Atomic number of each symbol."""
_PICOMETRES = """
31 28
128 96 84 76 71 66 57 58
166 141 121 111 107 105 102 106
203 176 170 160 153 139 139 132 126 124 132 122 122 120 119 120 120 116
220 195 190 175 164 154 147 146 142 139 145 144 142 139 139 138 139 140
244 215 207 204 203 201 199 198 198 196 194 192 192 189 190 187 187
175 170 162 151 144 141 136 136 132 145 146 148 140 150 150
260 221 215 206 200 196 190 187 180 169
"""
RADII = np.full(len(SYMBOLS), 1.6)
"""Covalent radius in Å by atomic number; 1.6 beyond curium. Source: Cordero et al. 2008, "Covalent radii revisited",
Dalton Transactions, with the low-spin values of Mn, Fe and Co."""
RADII[1:97] = [int(radius) / 100 for radius in _PICOMETRES.split()]
ISOTOPES = {"D": "H", "T": "H"}
"""Map from the symbol of a hydrogen isotope to the symbol of its element."""


def numbers_among(elements: tuple[str, ...], raw: RawCrystals | RawMolecules) -> Int[np.ndarray, "n l"]:
    """Convert the atomic numbers of raw examples to indices into `elements`, a model's elements; padding becomes 0.

    InputError if an element is not in `elements`; the message names the first example with such an element.
    """
    lookup = np.full(len(SYMBOLS), -1)
    lookup[[0, *(NUMBERS[symbol] for symbol in elements)]] = [0, *range(len(elements))]
    indices = lookup[raw.atomic_numbers]
    for i, j in np.argwhere(indices < 0).tolist()[:1]:
        symbol, allowed = SYMBOLS[raw.atomic_numbers[i, j]], ", ".join(elements)
        raise InputError(
            f"one of {allowed}, the model's elements", symbol, "Leave out this element", **raw.error_fields(i)
        )
    return indices


_JMOL = """
H ffffff He d9ffff Li cc80ff Be c2ff00 B ffb5b5 C 909090 N 3050f8 O ff0d0d F 90e050 Ne b3e3f5
Na ab5cf2 Mg 8aff00 Al bfa6a6 Si f0c8a0 P ff8000 S ffff30 Cl 1ff01f Ar 80d1e3 K 8f40d4 Ca 3dff00
Sc e6e6e6 Ti bfc2c7 V a6a6ab Cr 8a99c7 Mn 9c7ac7 Fe e06633 Co f090a0 Ni 50d050 Cu c88033 Zn 7d80b0
Ga c28f8f Ge 668f8f As bd80e3 Se ffa100 Br a62929 Kr 5cb8d1 Rb 702eb0 Sr 00ff00 Y 94ffff Zr 94e0e0
Nb 73c2c9 Mo 54b5b5 Tc 3b9e9e Ru 248f8f Rh 0a7d8c Pd 006985 Ag c0c0c0 Cd ffd98f In a67573 Sn 668080
Sb 9e63b5 Te d47a00 I 940094 Xe 429eb0 Cs 57178f Ba 00c900 La 70d4ff Ce ffffc7 Pr d9ffc7 Nd c7ffc7
Pm a3ffc7 Sm 8fffc7 Eu 61ffc7 Gd 45ffc7 Tb 30ffc7 Dy 1fffc7 Ho 00ff9c Er 00e675 Tm 00d452 Yb 00bf38
Lu 00ab24 Hf 4dc2ff Ta 4da6ff W 2194d6 Re 267dab Os 266696 Ir 175487 Pt d0d0e0 Au ffd123 Hg b8b8d0
Tl a6544d Pb 575961 Bi 9e4fb5 Po ab5c00 At 754f45 Rn 428296 Fr 420066 Ra 007d00 Ac 70abfa Th 00baff
Pa 00a1ff U 008fff Np 0080ff Pu 006bff Am 545cf2 Cm 785ce3 Bk 8a4fe3 Cf a136d4 Es b31fd4 Fm b31fba
Md b30da6 No bd0d87 Lr c70066 Rf cc0059 Db d1004f Sg d90045 Bh e00038 Hs e6002e Mt eb0026
"""
OTHER = "#fa1493"
"""Colour of elements that have no CPK colour."""
_WORDS = _JMOL.split()
_COLOURS = {NUMBERS[symbol]: f"#{colour}" for symbol, colour in zip(_WORDS[::2], _WORDS[1::2], strict=True)}


def colour_of(number: int) -> str:
    """Return the CPK colour of an atomic number, such as `#ff0d0d`."""
    return _COLOURS.get(number, OTHER)


def ink_on(colour: str) -> str:
    """Return the text colour, black or white, that contrasts with the background `colour`."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "#000000" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18 else "#ffffff"


NEAREST = 0.3
"""Minimum distance in Å between two atoms of a valid structure."""


def check_min_distance(
    distances: Float[np.ndarray, "l l"], atoms: Int[np.ndarray, " l"], where: str, what: str, within: str = ""
) -> None:
    """Raise an InputError if two atoms are closer than `NEAREST`.

    Args:
        distances: Distances of all pairs of atoms, in Å.
        atoms: Atomic numbers.
        where: Location of the structure, for the message.
        what: Type of the structure, for the message.
        within: Text after the numbers of the two atoms in the message, such as " of the cell".
    """
    pair_distances = distances + np.diag(np.full(len(atoms), np.inf))
    if pair_distances.min() >= NEAREST:
        return
    i, j = map(int, np.unravel_index(pair_distances.argmin(), pair_distances.shape))
    first, second = (f"{k + 1} ({SYMBOLS[atoms[k]]})" for k in (i, j))
    raise InputError(
        f"atoms {first} and {second}{within} are {pair_distances.min():.3g} Å apart",
        expected=f"{NEAREST:g} Å or more",
        remedy=f"Correct or remove the {what}",
        place=where,
    )


MAX_ATOMS = 10_000
"""Maximum number of atoms in a formula."""
FORMULA_HINT = "write a formula such as CaTiO3, or symbols such as Ca,Ti,O,O,O"
_PART = re.compile(r"([A-Z][a-z]?)(\d{0,9})|(\()|\)(\d{0,9})")


def counts(atoms: np.ndarray) -> Counter[str]:
    """Count the atoms of each element, given atomic numbers; elements are in the order of first occurrence."""
    return Counter(SYMBOLS[number] for number in atoms.tolist())


def formula_text(counts: Mapping[str, int]) -> str:
    """Format element counts as a formula, in the given order; a count of 1 is omitted."""
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in counts.items())


def formula(atoms: np.ndarray) -> str:
    """Return the formula of atomic numbers, such as CaTiO3, with elements in the order of first occurrence."""
    return formula_text(counts(atoms))


def hill_formula(atoms: np.ndarray) -> str:
    """Return the formula of atomic numbers in Hill order: C and H first if there is carbon, then alphabetical."""
    by_symbol = counts(atoms)
    leading = [symbol for symbol in ("C", "H") if symbol in by_symbol and "C" in by_symbol]
    return formula_text({symbol: by_symbol[symbol] for symbol in (*leading, *sorted(by_symbol.keys() - set(leading)))})


def symbols_of(text: str) -> list[str]:
    """Parse a formula such as Ca(OH)2, or a list such as Ca,O,O, into element symbols, one per atom.

    UsageError if the text is neither a formula nor a list, or contains an unknown element.
    """
    symbols = [token.strip() for token in text.split(",")] if "," in text else _expand(text.strip())
    unknown = next((symbol for symbol in symbols if symbol not in NUMBERS), None)
    if unknown is not None:
        raise UsageError(f"unknown element {unknown!r:.40} in element={text:.60}: {FORMULA_HINT}")
    return symbols


def _expand(formula: str) -> list[str]:
    """Expand a formula with multiplicities and nested brackets into one element symbol per atom."""
    levels: list[list[str]] = [[]]
    position = 0
    while position < len(formula):
        match = _PART.match(formula, position)
        if match is None or (match[0][0] == ")" and len(levels) == 1):
            raise UsageError(f"cannot parse element={formula:.60} at {formula[position:]!r:.40}: {FORMULA_HINT}")
        symbol, count, is_open, group_count = match.groups()
        if is_open:
            levels.append([])
        else:
            group = [symbol] if symbol else levels.pop()
            repeats = int((count if symbol else group_count) or 1)
            if repeats == 0:
                raise UsageError(f"element={formula:.60} has a multiplicity of 0: {FORMULA_HINT}")
            if len(group) * repeats + len(levels[-1]) > MAX_ATOMS:
                raise UsageError(f"element={formula:.60} has over {MAX_ATOMS:,} atoms: {FORMULA_HINT}")
            levels[-1] += group * repeats
        position = match.end()
    if len(levels) > 1 or not levels[0]:
        raise UsageError(f"element={formula:.60} has an unclosed bracket or no atoms: {FORMULA_HINT}")
    return levels[0]


def element_indices(symbols: list[str], elements: tuple[str, ...]) -> np.ndarray:
    """Return the index of each symbol in `elements`, a model's elements; UsageError if a symbol is not among them."""
    unknown = next((symbol for symbol in symbols if symbol not in elements), None)
    if unknown is not None:
        raise UsageError.unknown_name("element", unknown, elements)
    return np.array([elements.index(symbol) for symbol in symbols])
