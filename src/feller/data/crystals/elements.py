"""Chemical elements by their symbols and atomic numbers."""

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
ISOTOPES = {"D": "H", "T": "H"}
"""Isotopes with symbols of their own."""
