"""CIF and cells: pymatgen as the truth; symmetry, order of sites, angles that do not close, what cannot be read."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from scipy.optimize import minimize

from feller.core.errors import InputError, UsageError
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


def read(text: str) -> Crystal:
    return read_crystal(read_blocks(text)[0])[0]


def random(seed: int, size: int = 7) -> Crystal:
    draw = np.random.default_rng(seed)
    numbers = torch.from_numpy(0.4 * draw.normal(size=(1, 6)) + [1.5, 1.5, 1.5, 0, 0, 0])
    return Crystal(draw.integers(1, 90, size), draw.random((size, 3)), to_cell(numbers)[0].numpy())


def same(own: Crystal, structure: Structure) -> None:
    assert [site.specie.Z for site in structure] == own.atomic_numbers.tolist()
    np.testing.assert_allclose(structure.lattice.parameters, own.lattice, atol=1e-4)
    apart = structure.frac_coords - own.frac_coords
    np.testing.assert_allclose(apart - np.round(apart), 0, atol=1e-4)


def test_symbols_are_those_of_pymatgen() -> None:
    from pymatgen.core import Element

    theirs = {element.symbol: element.Z for element in Element if element.symbol not in ("D", "T")}
    assert theirs == NUMBERS
    assert SYMBOLS[26] == "Fe"


@pytest.mark.parametrize("seed", range(8))
def test_pymatgen_reads_what_is_written(seed: int) -> None:
    own = random(seed)
    structure = Structure.from_str(cif_text(own, "x"), fmt="cif")
    order = [int(np.abs((structure.frac_coords - p + 0.5) % 1 - 0.5).sum(1).argmin()) for p in own.frac_coords]
    assert sorted(order) == list(range(7))  # pymatgen sorts by electronegativity
    same(own, Structure.from_sites([structure[i] for i in order]))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_written_is_read_in_its_order(seed: int) -> None:
    own = random(seed)
    back = read(cif_text(own, "x"))
    assert back.atomic_numbers.tolist() == own.atomic_numbers.tolist()
    np.testing.assert_allclose(back.lattice, own.lattice, atol=1e-7)
    np.testing.assert_allclose(back.frac_coords, own.frac_coords, atol=1e-7)


@pytest.mark.parametrize("symprec", [None, 0.01])
def test_what_pymatgen_writes_is_read(symprec: float | None) -> None:
    """With symmetry, too: the same structure, though its sites come in the order of the file."""
    hexagonal = Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.82, 6.26), ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.3748]]
    )
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]]
    )
    from pymatgen.analysis.structure_matcher import StructureMatcher

    for structure in (hexagonal, rutile):
        back = read(str(CifWriter(structure, symprec=symprec)))
        again = Structure(Lattice.from_parameters(*back.lattice), back.atomic_numbers, back.frac_coords)
        assert len(again) == len(structure)
        assert StructureMatcher(primitive_cell=False, scale=False).fit(structure, again)


def test_symmetry_by_name_of_its_group() -> None:
    salt = read(SALT)
    assert formula(salt.atomic_numbers) == "Na4Cl4"
    assert salt.lattice.tolist() == [5.64, 5.64, 5.64, 90, 90, 90]
    truth = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    own, expected = (
        {tuple(np.round(p % 1 % 1, 6)) for p in places} for places in (salt.frac_coords, truth.frac_coords)
    )
    assert own == expected


def test_coarse_special_positions_are_one_atom() -> None:
    """0.333 is not a third, and its images under a threefold axis are 0.001 apart."""
    text = SALT.replace("F m -3 m", "P 3").replace("angle_gamma 90", "angle_gamma 120")
    text = text.replace("Na1 0 0 0", "Na1 0.333 0.667 0").replace("CL1 0.5 0.5 0.5", "Cl1 0 0 0.5")
    assert formula(read(text).atomic_numbers) == "NaCl"


def test_blocks_without_atoms_are_skipped_and_others_numbered() -> None:
    text = "# a file\ndata_global\n_publ_author 'x'\n" + SALT + cif_text(random(0), "y")
    assert [block.name for block in read_blocks(text)] == ["salt", "y"]


def test_deuterium_counts_as_hydrogen() -> None:
    crystal, isotopes = read_crystal(read_blocks(SALT.replace("CL1", "D1"))[0])
    assert isotopes
    assert formula(crystal.atomic_numbers) == "Na4H4"
    assert not read_crystal(read_blocks(SALT)[0])[1]


def test_label_of_any_letters_comes_back() -> None:
    for label in ("7", "a b", 'it\'s "x"', "größe", "_loop", "data_x\nloop_"):
        text = cif_text(random(0)._replace(label=label), "x")
        assert read(text).label == label
        assert len(read_blocks(text)) == 1


def test_types_count_before_labels() -> None:
    text = SALT.replace("_atom_site_label", "_atom_site_label\n_atom_site_type_symbol")
    assert formula(read(text.replace("Na1", "X1 Na1+").replace("CL1", "X2 Cl1-")).atomic_numbers) == "Na4Cl4"
    with pytest.raises(InputError, match="found 'Vac'"):
        read(text.replace("Na1", "X1 Vac").replace("CL1", "X2 Cl1-"))


@pytest.mark.parametrize("occupancy", ["0.5", "1.2", "0.80(2)"])
def test_partial_occupancy_is_told_apart(occupancy: str) -> None:
    text = SALT.replace("_atom_site_label", "_atom_site_label\n_atom_site_occupancy").replace("Na1", "Na1 1")
    with pytest.raises(PartialOccupancyError):
        read(text.replace("CL1", f"CL1 {occupancy}"))
    assert len(read(text.replace("CL1", "CL1 .")).atomic_numbers) == 8


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("_cell_length_a 5.64(1)\n", "", "_cell_length_a; found none"),
        ("length_b 5.64", "length_b ?", r"_cell_length_b; found '\?'"),
        ("length_b 5.64", "length_b 0", "positive volume"),
        ("length_b 5.64", "length_b -5", "positive volume"),
        ("length_b 5.64", "length_b nan", "_cell_length_b; found 'nan'"),
        ("angle_gamma 90", "angle_gamma 180", "positive volume"),
        ("CL1", "Xx1", "found 'Xx1'"),
        ("CL1", "?", "element symbol; found ''"),
        ("0.5 0.5 0.5", "0.5 nan 0.5", "fract_y; found 'nan'"),
        ("0.5 0.5 0.5", "0.5 0.5 ?", r"fract_z; found '\?'"),
        ("0.5 0.5 0.5", "0.5 0.5", "loop _atom_site_"),
        ("fract_x", "cartn_x", "_atom_site_fract_x"),
        ("_atom_site_label", "_atom_site_name", "no element symbols"),
        ("F m -3 m", "F q -3 q", "symmetry operations"),
        (
            "_symmetry_space_group_name_H-M 'F m -3 m'",
            "_space_group_name_Hall '-F 4 7'",
            "found '-F 4 7'",
        ),
        ("length_b 5.64", "length_b 5_6", "_cell_length_b; found '5_6'"),
        ("length_b 5.64", "length_b 0.09", r"lattice lengths of 0.1 to 1,000 Å; found 5.64, 0.09, 5.64"),
        ("length_b 5.64", "length_b 1e200", "lattice lengths of 0.1 to 1,000 Å"),
        ("length_b 5.64", f"length_b {5000 * '9'}", "_cell_length_b; found '9999"),
        ("0.5 0.5 0.5", "-1e300 0.5 0.5", r"fractional coordinates up to 1,000; found 1e\+300"),
    ],
)
def test_damage_is_named(old: str, new: str, match: str) -> None:
    assert old in SALT
    with pytest.raises(InputError, match=match) as error:
        read(SALT.replace(old, new))
    assert "\n" not in str(error.value)


def test_random_damage_gives_a_crystal_or_one_line() -> None:
    draw, text, said = np.random.default_rng(0), cif_text(random(1), "x"), []
    for _ in range(300):
        letters = list(text)
        for place in draw.integers(0, len(letters), 3):
            letters[place] = chr(draw.integers(9, 127))
        broken = "".join(letters)[: draw.integers(1, 2 * len(text))]
        try:
            crystals = [read_crystal(block)[0] for block in read_blocks(broken)]
        except (InputError, PartialOccupancyError) as error:
            said.append(str(error))
        else:
            assert all(len(crystal.atomic_numbers) == len(crystal.frac_coords) > 0 for crystal in crystals)
            assert all(np.isfinite(crystal.frac_coords).all() for crystal in crystals)
    assert said
    assert not any("\n" in each for each in said)


def test_without_gemmi_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(UsageError, match=r"feller\[crystals\]"):
        read(SALT)


def test_sites_need_no_labels() -> None:
    """Nor operations of symmetry, where the group says none."""
    plain = SALT.replace("_symmetry_space_group_name_H-M 'F m -3 m'\n", "")
    crystal = read(
        plain.replace("_atom_site_label", "_atom_site_type_symbol").replace("Na1", "Na").replace("CL1", "Cl")
    )
    assert formula(crystal.atomic_numbers) == "NaCl"
    grouped = SALT.replace("_atom_site_label", "_atom_site_type_symbol").replace("Na1", "Na").replace("CL1", "Cl")
    assert formula(read(grouped).atomic_numbers) == "Na4Cl4"


def test_field_of_text_begins_no_block() -> None:
    field = "_publ_comment\n;\ndata_ were taken at 100 K, see _atom_site_ and _cell_length_a\n;\n"
    text = SALT + field + cif_text(random(0), "y")
    assert [block.name for block in read_blocks(text)] == ["salt", "y"]
    assert formula(read(SALT + field).atomic_numbers) == "Na4Cl4"
    assert formula(read(SALT.replace("loop_", field + "loop_", 1)).atomic_numbers) == "Na4Cl4"


@pytest.mark.parametrize("key", ["_space_group_name_Hall", "_symmetry_space_group_name_Hall"])
@pytest.mark.parametrize("symbol", ["-F 4 2 3", "-F_4_2_3"])
def test_symmetry_by_hall_symbol(key: str, symbol: str) -> None:
    hall = read(SALT.replace("_symmetry_space_group_name_H-M 'F m -3 m'", f"{key} '{symbol}'"))
    own, expected = ({tuple(np.round(p, 6)) for p in crystal.frac_coords} for crystal in (hall, read(SALT)))
    assert own == expected


@pytest.mark.parametrize(("symbol", "place"), [("F 4d 2 3 -1d", "0 0 0"), ("-F 4vw 2vw 3", "0.125 0.125 0.125")])
def test_hall_symbol_says_where_the_origin_is(symbol: str, place: str) -> None:
    """Of diamond, whose group has two origins: eight atoms at either, four bonds of a sqrt(3) / 4 each."""
    name = "_symmetry_space_group_name_H-M 'F m -3 m'"
    text = SALT.replace(name, f"{name.replace('m -3', 'd -3')}\n_space_group_name_Hall '{symbol}'")
    crystal = read(text.replace("Na1 0 0 0", f"C1 {place}").replace("CL1 0.5 0.5 0.5\n", ""))
    assert formula(crystal.atomic_numbers) == "C8"
    diamond = Structure(Lattice.cubic(5.64), crystal.atomic_numbers, crystal.frac_coords)
    assert [len(near) for near in diamond.get_all_neighbors(5.64 * 3**0.5 / 4 + 0.01)] == [4] * 8


@pytest.mark.parametrize("missing", ["0.5 0.5\n", "'0.5' 0.5\n", "0.5 # 0.5\n;\na text\n;\n"])
def test_a_loop_with_a_missing_value_is_named(missing: str) -> None:
    """Seven values, or with the field of text eight, in rows of four and of five."""
    text = SALT.replace("0.5 0.5 0.5\n", missing)
    if ";" in missing:
        text = text.replace("_atom_site_label\n", "_atom_site_label\n_atom_site_note\n")
    with pytest.raises(InputError) as caught:
        read(text)
    assert "_atom_site_" in str(caught.value)


@pytest.mark.parametrize("said", ["_symmetry_space_group_name_H-M 'C 2/c'", "_symmetry_Int_Tables_number 15"])
def test_groups_without_listed_operations(said: str) -> None:
    """By a short name, and by its number alone, which stands for the usual setting."""
    text = SALT.replace("_symmetry_space_group_name_H-M 'F m -3 m'", said).replace("beta 90", "beta 100")
    own = read(text.replace("Na1 0 0 0", "Na1 0.1 0.2 0.3").replace("CL1 0.5 0.5 0.5", "Cl1 0 0.4 0.25"))
    lattice = Lattice.from_parameters(5.64, 5.64, 5.64, 90, 100, 90)
    truth = Structure.from_spacegroup("C2/c", lattice, ["Na", "Cl"], [[0.1, 0.2, 0.3], [0, 0.4, 0.25]])
    found, expected = (
        {tuple(np.round(p % 1 % 1, 6)) for p in places} for places in (own.frac_coords, truth.frac_coords)
    )
    assert found == expected


angle = st.floats(0.5, 179.5)
F64 = torch.float64


def cells(n: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n, 6, generator=draw, dtype=F64)
    return to_cell(numbers * torch.tensor([0.5] * 6) + torch.tensor([1.5] * 3 + [0.0] * 3))


def test_numbers_of_known_cells() -> None:
    lattice = torch.tensor([[1.0, np.e, np.e**2, 90.0, 60.0, 120.0]])
    expected = torch.tensor([[0, 1, 2, 0, -np.log(3) / 2, np.log(3) / 2]], dtype=F64)
    torch.testing.assert_close(from_cell(lattice.double()), expected)
    torch.testing.assert_close(to_cell(expected), lattice.double())


def test_numbers_are_radians_near_a_right_angle() -> None:
    lattice = torch.tensor([[1.0, 1, 1, 90.1, 89.9, 90]], dtype=F64)
    torch.testing.assert_close(from_cell(lattice)[0, 3:], torch.deg2rad(lattice[0, 3:] - 90), atol=1e-8, rtol=0)


def test_cells_come_back() -> None:
    lattice = cells(200)
    torch.testing.assert_close(to_cell(from_cell(lattice)), lattice, rtol=1e-12, atol=1e-9)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(angle, angle, angle)
def test_nearest_angles_that_close(alpha: float, beta: float, gamma: float) -> None:
    """Against a general minimiser under the four constraints."""
    own = torch.tensor([[alpha, beta, gamma]], dtype=F64)
    found = nearest_valid_angles(own)
    assert (slack(found) >= MARGIN - 1e-9).all()
    if (slack(own) >= MARGIN).all():
        assert torch.equal(found, own)
        return

    def room(x: np.ndarray) -> np.ndarray:
        return np.array([360 - x.sum(), *(x.sum() - 2 * x)]) - MARGIN

    best = minimize(
        lambda x: ((x - own[0].numpy()) ** 2).sum(),
        np.array([90.0, 90, 90]),
        constraints={"type": "ineq", "fun": room},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 200},
    )
    np.testing.assert_allclose(found[0].numpy(), best.x, atol=1e-4)


def test_every_number_gives_a_cell() -> None:
    """Also far from all data: pymatgen finds the same volume, above zero."""
    numbers = 6 * torch.randn(300, 6, generator=torch.Generator().manual_seed(1), dtype=F64)
    numbers[0], numbers[1] = 1e4, -1e4
    lattice = to_cell(numbers)
    assert is_valid_cell(lattice).all()
    assert lattice[:, :3].min() >= SHORTEST
    assert lattice[:, :3].max() <= LONGEST
    truth = [Lattice.from_parameters(*row).volume for row in lattice.tolist()]
    np.testing.assert_allclose(volume(lattice).numpy(), truth, rtol=1e-6)
    assert volume(lattice).min() > 0


def test_vectors_are_those_of_their_lengths_and_angles() -> None:
    lattice = cells(100, 3)
    edges = vectors(lattice)
    for row, own in zip(lattice.tolist(), edges.numpy(), strict=True):
        np.testing.assert_allclose(Lattice(own).parameters, row, rtol=1e-8)
    torch.testing.assert_close(torch.linalg.det(edges), volume(lattice), rtol=1e-9, atol=0)


def test_flat_cells_do_not_close() -> None:
    flat = [[1, 1, 1, 120, 120, 120], [1, 1, 1, 30, 60, 90], [0, 1, 1, 90, 90, 90], [1, 1, np.nan, 90, 90, 90]]
    assert not is_valid_cell(torch.tensor(flat, dtype=F64)).any()
    assert is_valid_cell(torch.tensor([[1, 1, 1, 119, 120, 120]], dtype=F64)).all()
