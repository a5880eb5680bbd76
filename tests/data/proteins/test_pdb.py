"""Protein structures in PDB and mmCIF files."""

import gzip
import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.loading.file_formats import load_raw
from feller.data.loading.raw import RawChains, RawCrystals
from feller.data.loading.read_options import ReadOptions
from feller.data.proteins.files import pdb_text, read_structure
from feller.data.proteins.residues import letters_of
from tests.data.crystals.test_cif import SALT
from tests.data.proteins.test_frames import chain, torsions
from tests.errors import refuses

HEADER = "HEADER    TEST\nREMARK   1 NOTHING\n"


def atom(
    name: str,
    residue: int,
    x: float,
    *,
    chain: str = "A",
    alternate: str = " ",
    insertion: str = " ",
    kind: str = "ATOM",
    residue_name: str = "ALA",
) -> str:
    return (
        f"{kind:<6}    1  {name:<3}{alternate}{residue_name} {chain}{residue:4d}{insertion}   "
        f"{x:8.3f}{2 * x:8.3f}{-x:8.3f}  1.00  0.00           {name[0]}\n"
    )


def residue(number: int, start: float, **more: str) -> str:
    return "".join(atom(name, number, start + i, **more) for i, name in enumerate(("N", "CA", "C", "O")))


def read(tmp_path: pathlib.Path, text: str, name: str = "1abc.pdb") -> dict[str, np.ndarray]:
    (tmp_path / name).write_text(text)
    return {chain.name: chain.atoms for chain in read_structure(tmp_path / name)}


def sequences(tmp_path: pathlib.Path, text: str) -> list[str]:
    (tmp_path / "1abc.pdb").write_text(text)
    return [letters_of(chain.residues) for chain in read_structure(tmp_path / "1abc.pdb")]


def test_chains_and_residues(tmp_path: pathlib.Path) -> None:
    text = HEADER + residue(1, 0) + residue(2, 10) + residue(2, 20, insertion="A") + "TER\n" + residue(1, 30, chain="B")
    chains = read(tmp_path, text)
    assert list(chains) == ["1abc:A", "1abc:B"]
    assert chains["1abc:A"][:, :, 0].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]
    assert chains["1abc:A"][1, 2].tolist() == [12, 24, -12]
    assert chains["1abc:B"].shape == (1, 4, 3)
    (tmp_path / "1abc.pdb").write_bytes((HEADER + residue(1, 0, chain="Z")).encode().replace(b"Z", b"\xaa"))
    assert len(read_structure(tmp_path / "1abc.pdb")[0].atoms) == 1


def test_first_model_and_first_alternate_are_read(tmp_path: pathlib.Path) -> None:
    text = f"MODEL        1\n{atom('N', 1, 0)}{atom('CA', 1, 1, alternate='A')}{atom('CA', 1, 9, alternate='B')}"
    chains = read(tmp_path, f"{text}{atom('C', 1, 2)}{atom('O', 1, 3)}ENDMDL\nMODEL        2\n{residue(1, 50)}ENDMDL\n")
    assert chains["1abc:A"][:, :, 0].tolist() == [[0, 1, 2, 3]]


def test_only_backbone_atoms_are_read(tmp_path: pathlib.Path) -> None:
    more = atom("CB", 1, 7) + atom("H", 1, 8) + atom("HA", 1, 8) + atom("O", 99, 5, kind="HETATM", residue_name="HOH")
    selenium = residue(2, 20, kind="HETATM", residue_name="MSE")
    chains = read(tmp_path, residue(1, 0) + more + selenium)
    assert chains["1abc:A"][:, :, 0].tolist() == [[0, 1, 2, 3], [20, 21, 22, 23]]


def test_missing_atoms_are_nan(tmp_path: pathlib.Path) -> None:
    chains = read(tmp_path, residue(1, 0) + atom("N", 2, 5) + atom("CA", 2, 6))
    assert np.isnan(chains["1abc:A"][1, :, 0]).tolist() == [False, False, True, True]


@pytest.mark.parametrize("coordinate", ["   1.0x0", "     4_0", "     nan", "        "])
def test_damaged_coordinates_are_refused(tmp_path: pathlib.Path, coordinate: str) -> None:
    line = atom("CA", 1, 1)
    with refuses(InputError, file=str(tmp_path / "1abc.pdb"), place="line 4"):
        read(tmp_path, HEADER + atom("N", 1, 0) + line[:38] + coordinate + line[46:])


@pytest.mark.parametrize("text", ["", "hello\n", "ATOM\n", atom("CB", 1, 0), atom("CA", 1, 1)[:40]])
def test_files_without_backbone_are_refused(tmp_path: pathlib.Path, text: str) -> None:
    with refuses(InputError, file=str(tmp_path / "1abc.pdb")):
        read(tmp_path, text)


def test_pdb_round_trip(tmp_path: pathlib.Path) -> None:
    chains = [np.arange(length * 12.0).reshape(length, 4, 3) / 7 - 20 for length in (2, 3)]
    reloaded = read(tmp_path, pdb_text(chains))
    assert len(reloaded) == 2
    for expected, atoms in zip(chains, reloaded.values(), strict=True):
        np.testing.assert_allclose(atoms, expected, atol=5e-4 + 1e-9)
    (atoms,) = read(tmp_path, pdb_text(chains[:1])).values()
    np.testing.assert_allclose(atoms, chains[0], atol=5e-4 + 1e-9)
    lines = pdb_text(chains[:1]).splitlines()
    assert lines[1] == "ATOM      2  CA  GLY A   1     -19.571 -19.429 -19.286  1.00  0.00           C  "
    assert lines[-1] == "END"


def test_residue_names(tmp_path: pathlib.Path) -> None:
    """If two residues share a number, the first one counts; a residue without a parent is unknown."""
    names = ["TRP", "MSE", "SEP", "HSD", "UNK", "LIG", "ASX", "TYR"]
    text = "".join(
        residue(i, 10 * i, residue_name=name, kind="HETATM" if name in ("MSE", "SEP") else "ATOM")
        for i, name in enumerate(names)
    )
    assert sequences(tmp_path, text + residue(0, 500, residue_name="PHE")) == ["WMSHXXXY"]
    assert sequences(
        tmp_path, residue(0, 0, residue_name="SEP", kind="HETATM") + residue(1, 9, residue_name="CYS")
    ) == ["SC"]


@pytest.mark.parametrize(("name", "expected"), [("GLY", "XXX"), ("ALA", "XXX"), ("LEU", "LLL")])
def test_placeholder_residues_are_unknown(tmp_path: pathlib.Path, name: str, expected: str) -> None:
    """A chain of only GLY or only ALA has no sequence; other chains of the file keep theirs."""
    chain = "".join(residue(i, 10 * i, residue_name=name) for i in range(3))
    other = "".join(
        residue(i, 10 * i, residue_name=residue_name, chain="B") for i, residue_name in enumerate(("GLY", "ALA"))
    )
    assert sequences(tmp_path, chain + other) == [expected, "GA"]


def test_sequence_round_trip(tmp_path: pathlib.Path) -> None:
    chains = [np.arange(length * 12.0).reshape(length, 4, 3) for length in (3, 2)]
    text = pdb_text(chains, ["WXG", "AC"])
    assert sequences(tmp_path, text) == ["WXG", "AC"]
    assert "CA  UNK A   2" in text
    assert "TER      13      GLY A   3" in text
    assert "SEQRES" not in text
    assert sequences(tmp_path, pdb_text(chains)) == ["XXX", "XX"]


def test_mmcif_equals_pdb(tmp_path: pathlib.Path) -> None:
    """The mmCIF file is converted by gemmi from the PDB file."""
    import gemmi

    text = (
        residue(1, 0)
        + residue(2, 10)
        + residue(2, 20, insertion="A")
        + residue(3, 30, kind="HETATM", residue_name="MSE")
    )
    text += (
        "TER\n" + residue(1, 40, chain="B", residue_name="LEU") + atom("O", 99, 5, kind="HETATM", residue_name="HOH")
    )
    text = f"MODEL        1\n{text}ENDMDL\nMODEL        2\n{residue(1, 90)}ENDMDL\n"
    structure = gemmi.read_pdb_string(text)
    structure.setup_entities()
    (tmp_path / "1abc.pdb").write_text(text)
    for name in ("1abc.cif", "1abc.mmcif", "1abc.cif.gz"):
        content = structure.make_mmcif_document().as_string()
        (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        for expected, actual in zip(
            read_structure(tmp_path / "1abc.pdb"), read_structure(tmp_path / name), strict=True
        ):
            assert expected.name == actual.name
            np.testing.assert_array_equal(expected.atoms, actual.atoms)
            np.testing.assert_array_equal(expected.residues, actual.residues)


@pytest.mark.parametrize("text", ["", "data_x\n_entry.id X\n", "data_x\nloop_\n_atom_site.id\n", "no cif"])
def test_damaged_mmcif_is_refused(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "1abc.mmcif").write_text(text)
    with refuses(InputError, file=str(tmp_path / "1abc.mmcif")):
        read_structure(tmp_path / "1abc.mmcif")


def test_cif_kind_is_detected(tmp_path: pathlib.Path) -> None:
    import gemmi

    atoms = chain(torsions(12, 0), torsions(12, 1))[0].numpy()
    structure = gemmi.read_pdb_string(pdb_text([atoms], ["ACDEFGHIKLMN"]))
    structure.setup_entities()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1abc.cif").write_text(structure.make_mmcif_document().as_string())
    for source in ("a", "a/1abc.cif"):
        assert isinstance(load_raw(tmp_path / source, ReadOptions(limit=None)), RawChains)
    (tmp_path / "a" / "salt.cif").write_text(SALT)
    assert isinstance(load_raw(tmp_path / "a" / "salt.cif", ReadOptions(limit=None)), RawCrystals)
    with refuses(InputError, file=str(tmp_path / "a"), expected="files of one type"):
        load_raw(tmp_path / "a", ReadOptions(limit=None))
