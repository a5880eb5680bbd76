"""Torsion angles: columns, units, ranges and missing values."""

import gzip
import math
import pathlib

import pytest
import torch

from feller.core.errors import InputError
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.points.euclidean_points import Points
from feller.data.points.torsions import Torsions
from tests.errors import refuses

F64 = torch.float64
TURN = 2 * math.pi


def table(folder: pathlib.Path, text: str, name: str = "t.csv") -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def test_table_of_residues(tmp_path: pathlib.Path) -> None:
    rows = "1a2p,B,35,-66.2,131,175.9,\n1a2p,B,71,-118,180,286.7,\n1abc,A,9,60,45,1,2\n"
    data = read(table(tmp_path, f"pdb,chain,residue,phi,psi,chi1,chi2\n{rows}", "t.csv.gz"))
    assert data.modality == Torsions(("phi", "psi", "chi1"), (360.0,) * 3, (180.0, 180.0, 360.0))
    assert data.values.tolist() == [[-66.2, 131, 175.9], [-118, 180, 286.7], [60, 45, 1]]
    for note, word in zip(data.notes, ("pdb, chain, residue", "chi2", "degrees"), strict=True):
        assert word in note


def test_rows_with_missing_angles_are_dropped(tmp_path: pathlib.Path) -> None:
    rows = "".join(f"{i},{2 * i},{'a' if i % 2 else 'b'}\n" for i in range(10, 18))
    data = read(table(tmp_path, f"phi,psi,label\n,5,a\n{rows}7,,b\n"))
    assert any("2 of 10" in note for note in data.notes)
    assert data.values[:, 0].tolist() == list(range(10, 18))
    assert [data.modality.classes[i] for i in data.given["label"]] == ["b", "a"] * 4


@pytest.mark.parametrize(
    ("header", "recognised"),
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
def test_columns_are_recognised_by_name(tmp_path: pathlib.Path, header: str, recognised: bool) -> None:
    n = header.count(",") + 1
    rows = "".join(",".join(str(10 * i + j) for j in range(n)) + "\n" for i in range(4))
    data = read(table(tmp_path, f"{header}\n{rows}"))
    assert isinstance(data.modality, Torsions if recognised else Points)
    assert isinstance(read(table(tmp_path, f"{header}\n{rows}"), space="euclidean").modality, Points)
    assert isinstance(read(table(tmp_path, f"{header}\n{rows}"), space="torus").modality, Torsions)


def test_units(tmp_path: pathlib.Path) -> None:
    def turns(header: str, rows: str) -> tuple[float, ...]:
        return read(table(tmp_path, f"{header}\n{rows}"), space="torus").modality.turns

    assert turns("a,b", "1,2\n-3,6.28\n") == (TURN, TURN)
    assert turns("a,b", "1,2\n-3,6.3\n") == (360.0, 360.0)
    assert turns("a_deg,b", "1,2\n") == (360.0, TURN)
    assert turns("a_rad,b", "1,200\n") == (TURN, 360.0)


def test_degrees_in_radian_columns_are_refused(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, row=3):
        read(table(tmp_path, "a_rad,b_rad\n1,2\n90,1\n"), space="torus")
    with refuses(InputError, row=2):
        read(table(tmp_path, "a\n90\n"), like=Torsions(("a",), (TURN,), (math.pi,)))


def test_states_are_radians_and_values_keep_their_range() -> None:
    modality = Torsions(("a", "b", "c"), (360.0, 360.0, TURN), (180.0, 360.0, math.pi))
    values = torch.tensor([[-90.0, 270.0, -1.0], [180.0, 0.0, math.pi], [10.0, 359.0, 0.5]], dtype=F64)
    state = modality.encode(values)
    expected = [
        [1.5 * math.pi, 1.5 * math.pi, TURN - 1],
        [math.pi, 0, math.pi],
        [10 * TURN / 360, 359 * TURN / 360, 0.5],
    ]
    torch.testing.assert_close(state, torch.tensor(expected, dtype=torch.float32))
    assert ((state >= 0) & (state < TURN)).all()
    decoded = modality.decode(state)
    turns_apart = (decoded - values) / torch.tensor([360.0, 360.0, TURN], dtype=F64)
    assert (turns_apart - turns_apart.round()).abs().max() < 1e-6
    boundary = modality.decode(torch.tensor([[math.pi, 0.0, math.pi], [-1e-9, -1e-9, 7.0]], dtype=F64))
    assert boundary[0].tolist() == [180.0, 0.0, math.pi]
    assert (
        (boundary > torch.tensor([-180.0, -1e-12, -math.pi])) & (boundary <= torch.tensor([180.0, 360.0, math.pi]))
    ).all()
    assert not (boundary[:, 1] == 360).any()


def test_angles_are_wrapped_into_range(tmp_path: pathlib.Path) -> None:
    data = read(table(tmp_path, "phi,psi\n-190,10\n180,-180\n-180,20\n"))
    assert data.values.tolist() == [[170, 10], [180, 180], [180, 20]]
    assert read(table(tmp_path, "phi,psi\n-190,10\n200,360\n")).values.tolist() == [[170, 10], [200, 0]]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("phi,psi\n,\n,\n", "phi, psi"),
        ("phi,psi\n,1\n1,\n1,2\n,5\n,6\n2,5\n", "phi"),
        ("x,phi,psi\nw,1,2\nw,3,inf\n", "row 3, column 3"),
    ],
)
def test_invalid_tables_are_refused(tmp_path: pathlib.Path, text: str, place: str) -> None:
    path = table(tmp_path, text)
    with refuses(InputError, file=path) as caught:
        read(path)
    assert place in str(caught.value)


def test_files_match_columns_of_a_model(tmp_path: pathlib.Path) -> None:
    modality = Torsions(("psi", "phi"), (360.0, 360.0), (180.0, 180.0))
    data = read(table(tmp_path, "name,phi,psi,chi1\na,1,2,\nb,3,4,\nc,5,,7\nd,7,8,\ne,9,10,\n"), like=modality)
    assert data.values.tolist() == [[2, 1], [4, 3], [8, 7], [10, 9]]
    with refuses(InputError, found="phi, chi1"):
        read(table(tmp_path, "phi,chi1\n1,2\n"), like=modality)


def test_euclidean_angles_round_trip(tmp_path: pathlib.Path) -> None:
    data = read(table(tmp_path, "phi,psi,x\n1,2,3\n4,5,6\n"), space="euclidean")
    data.modality.write(data.values, {}, tmp_path / "out.csv")
    assert torch.equal(read_samples(tmp_path / "out.csv", data.modality)[0], data.values)
    assert torch.equal(read(str(tmp_path / "out.csv"), like=data.modality).values, data.values)
