"""CIF files and unit cells, checked against pymatgen."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from scipy.optimize import minimize

from feller.core.errors import InputError
from feller.core.optional_dependency import NotInstalledError
from feller.data.atoms.elements import NUMBERS, SYMBOLS, formula
from feller.data.crystals.cif import Crystal, PartialOccupancyError, cif_text, read_blocks, read_crystal
from feller.data.crystals.lattice import (
    LONGEST,
    MARGIN,
    SHORTEST,
    from_cell,
    is_valid_cell,
    nearest_valid_angles,
    slack,
    to_cell,
    vectors,
    volume,
)
from tests.errors import refuses

SALT = """data_salt
_cell_length_a 5.64(1)
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 0 0 0
CL1 0.5 0.5 0.5
"""


NAMED_GROUP = "_symmetry_space_group_name_H-M 'F m -3 m'"


def read(text: str) -> Crystal:
    return read_crystal(read_blocks(text)[0])[0]


def site_set(coords: np.ndarray) -> set[tuple[float, ...]]:
    """Return rounded coordinates within the cell, without order."""
    return {tuple(np.round(place % 1 % 1, 6)) for place in coords}


def random_crystal(seed: int, size: int = 7) -> Crystal:
    draw = np.random.default_rng(seed)
    numbers = torch.from_numpy(0.4 * draw.normal(size=(1, 6)) + [1.5, 1.5, 1.5, 0, 0, 0])
    return Crystal(draw.integers(1, 90, size), draw.random((size, 3)), to_cell(numbers)[0].numpy())


def test_element_symbols_equal_pymatgen() -> None:
    from pymatgen.core import Element

    assert {element.symbol: element.Z for element in Element if element.symbol not in ("D", "T")} == NUMBERS
    assert SYMBOLS[26] == "Fe"


@pytest.mark.parametrize("seed", range(4))
def test_cif_round_trip_and_pymatgen(seed: int) -> None:
    crystal = random_crystal(seed)
    text = cif_text(crystal, "x")
    reloaded = read(text)
    assert reloaded.atomic_numbers.tolist() == crystal.atomic_numbers.tolist()
    np.testing.assert_allclose(reloaded.lattice, crystal.lattice, atol=1e-7)
    np.testing.assert_allclose(reloaded.frac_coords, crystal.frac_coords, atol=1e-7)
    structure = Structure.from_str(text, fmt="cif")
    np.testing.assert_allclose(structure.lattice.parameters, crystal.lattice, atol=1e-4)
    order = []  # pymatgen sorts by electronegativity
    for place in crystal.frac_coords:
        distances = np.abs((structure.frac_coords - place + 0.5) % 1 - 0.5).sum(1)
        assert distances.min() < 1e-4
        order.append(int(distances.argmin()))
    assert sorted(order) == list(range(7))
    assert [structure[i].specie.Z for i in order] == crystal.atomic_numbers.tolist()


@pytest.mark.parametrize("label", ["7", "a b", 'it\'s "x"', "größe", "_loop", "data_x\nloop_"])
def test_label_round_trip(label: str) -> None:
    text = cif_text(random_crystal(0)._replace(label=label), "x")
    assert read(text).label == label
    assert len(read_blocks(text)) == 1


@pytest.mark.parametrize("symprec", [None, 0.01])
def test_reads_cif_of_pymatgen(symprec: float | None) -> None:
    """With `symprec`, the file lists symmetry operations instead of all atoms."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    zincite, rutile = Lattice.hexagonal(3.82, 6.26), Lattice.tetragonal(4.594, 2.959)
    for structure in (
        Structure.from_spacegroup("P6_3mc", zincite, ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.3748]]),
        Structure.from_spacegroup("P4_2/mnm", rutile, ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]]),
    ):
        crystal = read(str(CifWriter(structure, symprec=symprec)))
        reloaded = Structure(Lattice.from_parameters(*crystal.lattice), crystal.atomic_numbers, crystal.frac_coords)
        assert len(reloaded) == len(structure)
        assert StructureMatcher(primitive_cell=False, scale=False).fit(structure, reloaded)


@pytest.mark.parametrize(
    "group",
    [NAMED_GROUP, "_space_group_name_Hall '-F 4 2 3'", "_symmetry_space_group_name_Hall '-F_4_2_3'"],
)
def test_symmetry_from_group_name_or_hall_symbol(group: str) -> None:
    salt = read(SALT.replace(NAMED_GROUP, group))
    assert formula(salt.atomic_numbers) == "Na4Cl4"
    assert salt.lattice.tolist() == [5.64, 5.64, 5.64, 90, 90, 90]
    expected = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert site_set(salt.frac_coords) == site_set(expected.frac_coords)


@pytest.mark.parametrize("group", ["_symmetry_space_group_name_H-M 'C 2/c'", "_symmetry_Int_Tables_number 15"])
def test_symmetry_from_short_name_or_number(group: str) -> None:
    text = SALT.replace(NAMED_GROUP, group).replace("beta 90", "beta 100")
    crystal = read(text.replace("Na1 0 0 0", "Na1 0.1 0.2 0.3").replace("CL1 0.5 0.5 0.5", "Cl1 0 0.4 0.25"))
    lattice = Lattice.from_parameters(5.64, 5.64, 5.64, 90, 100, 90)
    expected = Structure.from_spacegroup("C2/c", lattice, ["Na", "Cl"], [[0.1, 0.2, 0.3], [0, 0.4, 0.25]])
    assert site_set(crystal.frac_coords) == site_set(expected.frac_coords)


def test_rounded_special_positions_are_merged() -> None:
    """The images of 0.333 under a threefold axis are 0.001 apart."""
    text = SALT.replace("F m -3 m", "P 3").replace("angle_gamma 90", "angle_gamma 120")
    text = text.replace("Na1 0 0 0", "Na1 0.333 0.667 0").replace("CL1 0.5 0.5 0.5", "Cl1 0 0 0.5")
    assert formula(read(text).atomic_numbers) == "NaCl"


def test_blocks_without_atoms_are_skipped() -> None:
    text = "# a file\ndata_global\n_publ_author 'x'\n" + SALT + cif_text(random_crystal(0), "y")
    assert [block.name for block in read_blocks(text)] == ["salt", "y"]


def test_deuterium_is_read_as_hydrogen() -> None:
    crystal, isotopes = read_crystal(read_blocks(SALT.replace("CL1", "D1"))[0])
    assert isotopes
    assert formula(crystal.atomic_numbers) == "Na4H4"
    assert not read_crystal(read_blocks(SALT)[0])[1]


def test_element_from_type_symbol_or_label() -> None:
    text = SALT.replace("_atom_site_label", "_atom_site_label\n_atom_site_type_symbol")
    assert formula(read(text.replace("Na1", "X1 Na1+").replace("CL1", "X2 Cl1-")).atomic_numbers) == "Na4Cl4"
    with refuses(InputError, found="'Vac'"):
        read(text.replace("Na1", "X1 Vac").replace("CL1", "X2 Cl1-"))
    unlabelled = SALT.replace("_atom_site_label", "_atom_site_type_symbol").replace("Na1", "Na").replace("CL1", "Cl")
    assert formula(read(unlabelled).atomic_numbers) == "Na4Cl4"
    assert formula(read(unlabelled.replace(f"{NAMED_GROUP}\n", "")).atomic_numbers) == "NaCl"


@pytest.mark.parametrize("occupancy", ["0.5", "1.2", "0.80(2)"])
def test_partial_occupancy_has_its_own_error(occupancy: str) -> None:
    text = SALT.replace("_atom_site_label", "_atom_site_label\n_atom_site_occupancy").replace("Na1", "Na1 1")
    with pytest.raises(PartialOccupancyError):
        read(text.replace("CL1", f"CL1 {occupancy}"))
    assert len(read(text.replace("CL1", "CL1 .")).atomic_numbers) == 8


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("_cell_length_a 5.64(1)\n", "", "none"),
        ("length_b 5.64", "length_b ?", "'?'"),
        ("length_b 5.64", "length_b 0", "5.64, 0, 5.64, 90, 90, 90"),
        ("length_b 5.64", "length_b -5", "5.64, -5, 5.64, 90, 90, 90"),
        ("length_b 5.64", "length_b nan", "'nan'"),
        ("length_b 5.64", "length_b 5_6", "'5_6'"),
        ("length_b 5.64", "length_b 0.09", "5.64, 0.09, 5.64"),
        ("length_b 5.64", "length_b 1e200", "5.64, 1e+200, 5.64"),
        ("length_b 5.64", f"length_b {5000 * '9'}", f"'{40 * '9'}'"),
        ("angle_gamma 90", "angle_gamma 180", "5.64, 5.64, 5.64, 90, 90, 180"),
        ("CL1", "Xx1", "'Xx1'"),
        ("CL1", "?", "''"),
        ("0.5 0.5 0.5", "0.5 nan 0.5", "'nan'"),
        ("0.5 0.5 0.5", "0.5 0.5 ?", "'?'"),
        ("0.5 0.5 0.5", "-1e300 0.5 0.5", "1e+300"),
        ("fract_x", "cartn_x", "none"),
        ("_atom_site_label", "_atom_site_name", "no element symbols"),
        ("F m -3 m", "F q -3 q", "'F q -3 q'"),
        (NAMED_GROUP, "_space_group_name_Hall '-F 4 7'", "'-F 4 7'"),
    ],
)
def test_damage_is_refused(old: str, new: str, found: str) -> None:
    assert old in SALT
    with refuses(InputError, found=found):
        read(SALT.replace(old, new))


@pytest.mark.parametrize("values", ["0.5 0.5\n", "'0.5' 0.5\n", "0.5 # 0.5\n;\na text\n;\n"])
def test_loop_with_a_missing_value_is_refused(values: str) -> None:
    """The loop has rows of four values, or of five with the text field."""
    text = SALT.replace("0.5 0.5 0.5\n", values)
    if ";" in values:
        text = text.replace("_atom_site_label\n", "_atom_site_label\n_atom_site_note\n")
    with refuses(InputError) as caught:
        read(text)
    assert "_atom_site_" in str(caught.value)


def test_random_damage_is_read_or_refused_in_one_line() -> None:
    draw, text, messages = np.random.default_rng(0), cif_text(random_crystal(1), "x"), []
    for _ in range(300):
        letters = list(text)
        for place in draw.integers(0, len(letters), 3):
            letters[place] = chr(draw.integers(9, 127))
        broken = "".join(letters)[: draw.integers(1, 2 * len(text))]
        try:
            crystals = [read_crystal(block)[0] for block in read_blocks(broken)]
        except (InputError, PartialOccupancyError) as error:
            messages.append(str(error))
        else:
            assert all(len(crystal.atomic_numbers) == len(crystal.frac_coords) > 0 for crystal in crystals)
            assert all(np.isfinite(crystal.frac_coords).all() for crystal in crystals)
    assert messages
    assert not any("\n" in each for each in messages)


def test_missing_gemmi_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(NotInstalledError, match="crystals"):
        read(SALT)


def test_text_fields_do_not_start_a_block() -> None:
    field = "_publ_comment\n;\ndata_ were taken at 100 K, see _atom_site_ and _cell_length_a\n;\n"
    text = SALT + field + cif_text(random_crystal(0), "y")
    assert [block.name for block in read_blocks(text)] == ["salt", "y"]
    assert formula(read(SALT + field).atomic_numbers) == "Na4Cl4"
    assert formula(read(SALT.replace("loop_", field + "loop_", 1)).atomic_numbers) == "Na4Cl4"


@pytest.mark.parametrize(("symbol", "place"), [("F 4d 2 3 -1d", "0 0 0"), ("-F 4vw 2vw 3", "0.125 0.125 0.125")])
def test_hall_symbol_sets_the_origin(symbol: str, place: str) -> None:
    """Diamond at either origin: eight atoms with four bonds of sqrt(3) a / 4 each."""
    text = SALT.replace(NAMED_GROUP, f"{NAMED_GROUP.replace('m -3', 'd -3')}\n_space_group_name_Hall '{symbol}'")
    crystal = read(text.replace("Na1 0 0 0", f"C1 {place}").replace("CL1 0.5 0.5 0.5\n", ""))
    assert formula(crystal.atomic_numbers) == "C8"
    diamond = Structure(Lattice.cubic(5.64), crystal.atomic_numbers, crystal.frac_coords)
    assert [len(near) for near in diamond.get_all_neighbors(5.64 * 3**0.5 / 4 + 0.01)] == [4] * 8


angle = st.floats(0.5, 179.5)
F64 = torch.float64


def cells(n: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n, 6, generator=draw, dtype=F64)
    return to_cell(numbers * torch.tensor([0.5] * 6) + torch.tensor([1.5] * 3 + [0.0] * 3))


def test_cell_parameters_in_closed_form() -> None:
    lattice = torch.tensor([[1.0, np.e, np.e**2, 90.0, 60.0, 120.0]])
    expected = torch.tensor([[0, 1, 2, 0, -np.log(3) / 2, np.log(3) / 2]], dtype=F64)
    torch.testing.assert_close(from_cell(lattice.double()), expected)
    torch.testing.assert_close(to_cell(expected), lattice.double())
    near_right = torch.tensor([[1.0, 1, 1, 90.1, 89.9, 90]], dtype=F64)
    radians = torch.deg2rad(near_right[0, 3:] - 90)
    torch.testing.assert_close(from_cell(near_right)[0, 3:], radians, atol=1e-8, rtol=0)
    lattice = cells(200)
    torch.testing.assert_close(to_cell(from_cell(lattice)), lattice, rtol=1e-12, atol=1e-9)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(angle, angle, angle)
def test_nearest_valid_angles_equal_constrained_minimiser(alpha: float, beta: float, gamma: float) -> None:
    angles = torch.tensor([[alpha, beta, gamma]], dtype=F64)
    found = nearest_valid_angles(angles)
    assert (slack(found) >= MARGIN - 1e-9).all()
    if (slack(angles) >= MARGIN).all():
        assert torch.equal(found, angles)
        return

    def margins(x: np.ndarray) -> np.ndarray:
        return np.array([360 - x.sum(), *(x.sum() - 2 * x)]) - MARGIN

    expected = minimize(
        lambda x: ((x - angles[0].numpy()) ** 2).sum(),
        np.array([90.0, 90, 90]),
        constraints={"type": "ineq", "fun": margins},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 200},
    )
    np.testing.assert_allclose(found[0].numpy(), expected.x, atol=1e-4)


def test_unconstrained_parameters_give_valid_cells() -> None:
    parameters = 6 * torch.randn(300, 6, generator=torch.Generator().manual_seed(1), dtype=F64)
    parameters[0], parameters[1] = 1e4, -1e4
    lattice = to_cell(parameters)
    assert is_valid_cell(lattice).all()
    assert lattice[:, :3].min() >= SHORTEST
    assert lattice[:, :3].max() <= LONGEST
    expected = [Lattice.from_parameters(*row).volume for row in lattice.tolist()]
    np.testing.assert_allclose(volume(lattice).numpy(), expected, rtol=1e-6)
    assert volume(lattice).min() > 0
    flat = [[1, 1, 1, 120, 120, 120], [1, 1, 1, 30, 60, 90], [0, 1, 1, 90, 90, 90], [1, 1, np.nan, 90, 90, 90]]
    assert not is_valid_cell(torch.tensor(flat, dtype=F64)).any()
    assert is_valid_cell(torch.tensor([[1, 1, 1, 119, 120, 120]], dtype=F64)).all()


def test_lattice_vectors_equal_pymatgen() -> None:
    lattice = cells(100, 3)
    edges = vectors(lattice)
    for row, edge_vectors in zip(lattice.tolist(), edges.numpy(), strict=True):
        np.testing.assert_allclose(Lattice(edge_vectors).parameters, row, rtol=1e-8)
    torch.testing.assert_close(torch.linalg.det(edges), volume(lattice), rtol=1e-9, atol=0)
