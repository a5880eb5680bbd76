"""Chemical elements by their symbols and atomic numbers."""

import numpy as np
from jaxtyping import Int

from feller.core.errors import InputError
from feller.data.loading.raw import FoundCrystals, FoundMolecules

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
"""The symbol of each atomic number; nothing has number 0."""
NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}
"""The atomic number of each symbol."""
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
"""Covalent radius in Å of each atomic number; 1.6 beyond curium. Source: Cordero et al. 2008, "Covalent radii
revisited", Dalton Transactions, with the low-spin values of Mn, Fe and Co."""
RADII[1:97] = [int(radius) / 100 for radius in _PICOMETRES.split()]
ISOTOPES = {"D": "H", "T": "H"}
"""Isotopes with symbols of their own."""


def numbers_among(elements: tuple[str, ...], found: FoundCrystals | FoundMolecules) -> Int[np.ndarray, "n l"]:
    """Number the atoms of a file by their place among the elements of a model; 0 also behind the last atom.

    Raises:
        InputError: If the model does not know one; names the first example that has it.
    """
    places = np.full(len(SYMBOLS), -1)
    places[[0, *(NUMBERS[symbol] for symbol in elements)]] = [0, *range(len(elements))]
    numbers = places[found.atoms]
    for i, j in np.argwhere(numbers < 0).tolist()[:1]:
        symbol, known = SYMBOLS[found.atoms[i, j]], ", ".join(elements)
        raise InputError(f"{found.called(i)}: this model knows no {symbol}, only {known}; leave it out")
    return numbers
