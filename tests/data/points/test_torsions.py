"""Angles: which columns are taken, in which unit and range, and what becomes of missing ones."""

import gzip
import math
import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Modality
from feller.data.points.euclidean_points import Points
from feller.data.points.torsions import Torsions
from tests.errors import refuses

F64 = torch.float64
TURN = 2 * math.pi


def table(folder: pathlib.Path, text: str, name: str = "t.csv") -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def test_a_table_of_residues_is_recognised(tmp_path: pathlib.Path) -> None:
    rows = "1a2p,B,35,-66.2,131,175.9,\n1a2p,B,71,-118,180,286.7,\n1abc,A,9,60,45,1,2\n"
    data = read(table(tmp_path, f"pdb,chain,residue,phi,psi,chi1,chi2\n{rows}", "t.csv.gz"))
    assert data.modality == Torsions(("phi", "psi", "chi1"), (360.0,) * 3, (180.0, 180.0, 360.0))
    assert data.values.tolist() == [[-66.2, 131, 175.9], [-118, 180, 286.7], [60, 45, 1]]
    assert data.notes[:2] == (
        "ignored the columns pdb, chain, residue, which are not angles",
        "dropped the column chi2, missing in 67% of the rows",
    )
    assert "all in degrees, since a value exceeds 2 pi" in data.notes[2]


def test_rows_with_a_missing_angle_are_left_out_and_counted(tmp_path: pathlib.Path) -> None:
    rows = "".join(f"{i},{2 * i},{'a' if i % 2 else 'b'}\n" for i in range(10, 18))
    data = read(table(tmp_path, f"phi,psi,label\n,5,a\n{rows}7,,b\n"))
    assert "dropped 2 of 10 rows with a missing angle" in data.notes
    assert data.values[:, 0].tolist() == list(range(10, 18))
    assert [data.modality.classes[i] for i in data.given["label"]] == ["b", "a"] * 4


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ("phi,psi", True),
        ("Psi,PHI,omega", True),
        ("alpha,beta,gamma,delta,epsilon,zeta,chi", True),
        ("phi_deg,psi_deg", True),
        ("phi,x", False),
        ("alpha,beta", False),
        ("chi1,chi2", False),
    ],
)
def test_names_decide(tmp_path: pathlib.Path, header: str, known: bool) -> None:
    n = header.count(",") + 1
    rows = "".join(",".join(str(10 * i + j) for j in range(n)) + "\n" for i in range(4))
    data = read(table(tmp_path, f"{header}\n{rows}"))
    assert isinstance(data.modality, Torsions if known else Points)
    assert isinstance(read(table(tmp_path, f"{header}\n{rows}"), space="euclidean").modality, Points)
    assert isinstance(read(table(tmp_path, f"{header}\n{rows}"), space="torus").modality, Torsions)


def test_units(tmp_path: pathlib.Path) -> None:
    def turns(header: str, rows: str) -> tuple[float, ...]:
        return read(table(tmp_path, f"{header}\n{rows}"), space="torus").modality.turns

    assert turns("a,b", "1,2\n-3,6.28\n") == (TURN, TURN)
    assert turns("a,b", "1,2\n-3,6.3\n") == (360.0, 360.0)
    assert turns("a_deg,b", "1,2\n") == (360.0, TURN)
    assert turns("a_rad,b", "1,200\n") == (TURN, 360.0)
    note = read(table(tmp_path, "a,b\n1,2\n"), space="torus").notes[-1]
    assert "all in radians, since no value exceeds 2 pi" in note


def test_degrees_in_a_column_of_radians_are_refused(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, row=3):
        read(table(tmp_path, "a_rad,b_rad\n1,2\n90,1\n"), space="torus")
    with refuses(InputError, row=2):
        read(table(tmp_path, "a\n90\n"), like=Torsions(("a",), (TURN,), (math.pi,)))


def test_states_are_radians_and_values_keep_their_range() -> None:
    modality = Torsions(("a", "b", "c"), (360.0, 360.0, TURN), (180.0, 360.0, math.pi))
    values = torch.tensor([[-90.0, 270.0, -1.0], [180.0, 0.0, math.pi], [10.0, 359.0, 0.5]], dtype=F64)
    state = modality.encode(values)
    truth = [[1.5 * math.pi, 1.5 * math.pi, TURN - 1], [math.pi, 0, math.pi], [10 * TURN / 360, 359 * TURN / 360, 0.5]]
    torch.testing.assert_close(state, torch.tensor(truth, dtype=torch.float32))
    assert ((state >= 0) & (state < TURN)).all()
    back = modality.decode(state)
    away = (back - values) / torch.tensor([360.0, 360.0, TURN], dtype=F64)
    assert (away - away.round()).abs().max() < 1e-6
    odd = modality.decode(torch.tensor([[math.pi, 0.0, math.pi], [-1e-9, -1e-9, 7.0]], dtype=F64))
    assert odd[0].tolist() == [180.0, 0.0, math.pi]
    assert ((odd > torch.tensor([-180.0, -1e-12, -math.pi])) & (odd <= torch.tensor([180.0, 360.0, math.pi]))).all()
    assert not (odd[:, 1] == 360).any()


def test_angles_beyond_a_turn_are_brought_into_the_range(tmp_path: pathlib.Path) -> None:
    data = read(table(tmp_path, "phi,psi\n-190,10\n180,-180\n-180,20\n"))
    assert data.values.tolist() == [[170, 10], [180, 180], [180, 20]]
    assert read(table(tmp_path, "phi,psi\n-190,10\n200,360\n")).values.tolist() == [[170, 10], [200, 0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("phi,psi\n1,a\n", "number in column 'psi', row 2, counting the header; found 'a'"),
        ("phi,psi\n,\n,\n", "every row has a missing value in phi, psi"),
        ("phi,psi\n,1\n1,\n1,2\n,5\n,6\n2,5\n", r"too many rows have no value in phi"),
        ("x,phi,psi\nw,1,2\nw,3,inf\n", r"row 3, column 3 \(psi\) is inf"),
        ("phi,psi\n1\n", "row 2 has 1 cell; expected 2"),
    ],
)
def test_refused_in_one_line(tmp_path: pathlib.Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_refused(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(table(tmp_path, "phi,psi\n" + "1,200\n" * 500, "t.csv.gz"))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"not a zip", whole[:15] + b"xxxx" + whole[19:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"t\.csv\.gz"):
            read(str(path))


def test_others_are_read_by_the_columns_of_a_model(tmp_path: pathlib.Path) -> None:
    modality = Torsions(("psi", "phi"), (360.0, 360.0), (180.0, 180.0))
    data = read(table(tmp_path, "name,phi,psi,chi1\na,1,2,\nb,3,4,\nc,5,,7\nd,7,8,\ne,9,10,\n"), like=modality)
    assert data.values.tolist() == [[2, 1], [4, 3], [8, 7], [10, 9]]
    with pytest.raises(InputError, match="expected the columns psi, phi; found phi, chi1"):
        read(table(tmp_path, "phi,chi1\n1,2\n"), like=modality)


def test_what_was_taken_as_plain_numbers_is_read_back_so(tmp_path: pathlib.Path) -> None:
    data = read(table(tmp_path, "phi,psi,x\n1,2,3\n4,5,6\n"), space="euclidean")
    data.modality.write(data.values, {}, tmp_path / "out.csv")
    assert torch.equal(read_samples(tmp_path / "out.csv", data.modality)[0], data.values)
    assert torch.equal(read(str(tmp_path / "out.csv"), like=data.modality).values, data.values)


def test_every_form_gives_the_same_values_back(tmp_path: pathlib.Path) -> None:
    modality = Torsions(("phi", "psi", "chi1"), (360.0,) * 3, (180.0, 180.0, 360.0), ("x", "y"))
    values = torch.tensor([[-179.5, 180.0, 359.9], [0.0, 1.0, 200.0]], dtype=F64)
    for name in ("a.npz", "a.csv", "a.tsv", "folder"):
        modality.write(values, {"label": torch.tensor([1, 0])}, tmp_path / name)
        back, given = read_samples(tmp_path / name, modality)
        assert torch.equal(back, values)
        assert given["label"].tolist() == [1, 0]
        assert read(str(tmp_path / name)).modality == modality
    assert from_dict(Modality, to_dict(modality)) == modality
    with pytest.raises(InputError, match="expected a full turn, 360 or 2 pi"):
        Torsions(("a",), (100.0,), (1.0,))


@pytest.mark.parametrize("d", [1, 2, 4, 9])
def test_pictures_for_any_number_of_angles(d: int) -> None:
    modality = Torsions(tuple(f"a{i}" for i in range(d)), (360.0,) * d, (360.0,) * d)
    values = torch.from_numpy(np.random.default_rng(0).uniform(0, 360, (200, d)))
    shown = modality.show(values, {})
    assert min(shown.size) >= 300
    assert len(shown.getcolors(maxcolors=10**6)) > 10
