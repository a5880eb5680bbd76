"""Targets: properties of examples, columns and classes to predict."""

import csv
import io
import math
import pathlib

import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.batches import batch_loader, split
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.targets import read_with_target, select_target
from feller.data.modality import Target
from feller.data.tables.column import Categorical
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from tests.data.molecules.test_sdf import WATER as WATER_RECORD
from tests.errors import refuses
from tests.oracle import close

WATER = "O 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"


def molecules(folder: pathlib.Path, *comments: str) -> pathlib.Path:
    file = folder / "m.xyz"
    file.write_text("".join(f"3\n{comment}\n{WATER}" for comment in comments))
    return file


def table(folder: pathlib.Path, text: str, name: str = "t.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_xyz_properties(tmp_path: pathlib.Path) -> None:
    comments = ['mu=1.5 smiles=CC=O Lattice="5 0 0" energy=-2e1', "mu=2.5 pbc=F energy=nan", "water, mu = 7"]
    data = read(str(molecules(tmp_path, *comments)))
    assert data.properties.keys() == {"mu", "energy"}
    close(data.properties["mu"][:2], (1.5, 2.5), 0)
    close(data.properties["energy"][:1], (-20.0,), 0)
    assert data.properties["mu"].isnan().tolist() == [False, False, True]
    assert data.properties["energy"].isnan().tolist() == [False, True, True]
    assert data.target is None
    assert data.subset(torch.tensor([1])).properties["mu"].item() == 2.5


def test_qm9_properties(tmp_path: pathlib.Path) -> None:
    """Methane, the first molecule: the gap is lumo - homo."""
    numbers = "157.7118 157.70997 157.70699 0. 13.21 -0.3877 0.1171 0.5048 35.3641 0.044749 -40.47893 -40.476062"
    comment = f"gdb 1\t{numbers} -40.475117 -40.498597 6.469"
    text = f"3\n{comment}\n{WATER}1341.307 1341.3284\nC\tC\nInChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4\n"
    (tmp_path / "a.xyz").write_text(text + text)
    properties = {name: numbers[0].item() for name, numbers in read(str(tmp_path / "a.xyz")).properties.items()}
    assert properties["mu"] == 0.0
    assert properties["alpha"] == 13.21
    assert math.isclose(properties["lumo"] - properties["homo"], properties["gap"], abs_tol=1e-9)
    assert properties["Cv"] == 6.469
    assert len(properties) == 15


def test_sdf_properties(tmp_path: pathlib.Path) -> None:
    fields = "> <energy>\n-76.4\n\n>  1 <gap>  (7)\n0.5\n\n> <name>\nwater\n\n$$$$\n"
    (tmp_path / "a.sdf").write_text(f"{WATER_RECORD}{fields}{WATER_RECORD}$$$$\n")
    properties = read(str(tmp_path / "a.sdf")).properties
    assert properties.keys() == {"energy", "gap"}
    close(torch.stack([properties["energy"][0], properties["gap"][0]]), (-76.4, 0.5), 0)
    assert properties["energy"].isnan().tolist() == [False, True]


def test_crystal_table_properties(tmp_path: pathlib.Path) -> None:
    data = read("example:perovskites").subset(torch.arange(3))
    data.modality.write(data.values, data.given, tmp_path / "c.csv")
    rows = list(csv.reader(io.StringIO((tmp_path / "c.csv").read_text())))
    more = [["energy", "name", "gap"], ["-1.5", "a", "1"], ["-2.5", "b", ""], ["-3.5", "7", "3"]]
    text = io.StringIO()
    csv.writer(text).writerows([row + extra for row, extra in zip(rows, more, strict=True)])
    (tmp_path / "d.csv").write_text(text.getvalue())
    properties = read(str(tmp_path / "d.csv")).properties
    assert properties.keys() == {"energy", "gap"}
    close(properties["energy"], (-1.5, -2.5, -3.5), 0)
    assert properties["gap"].isnan().tolist() == [False, True, False]


def test_examples_without_target_are_dropped(tmp_path: pathlib.Path) -> None:
    data = select_target(read(str(molecules(tmp_path, "mu=1 gap=5", "mu=2", "mu=4 gap=9"))), ("mu", "gap"))
    assert len(data) == 2
    assert data.target == Target(("mu", "gap"), (2.5, 7.0), (1.5, 2.0))
    assert any("dropped 1 " in note for note in data.notes)
    close(data.targets(data.target), [[1.0, 5.0], [4.0, 9.0]], 0)
    assert not select_target(read(str(molecules(tmp_path, "mu=1", "mu=2"))), ("mu",)).notes


def test_target_column_is_not_a_value(tmp_path: pathlib.Path) -> None:
    path = table(tmp_path, "a,y,b,label\n1,10,5,x\n2,20,6,z\n3,60,7,x\n")
    data = select_target(read(path), ("y",))
    assert data.modality.columns == ("a", "b")
    close(data.values, [[1, 5], [2, 6], [3, 7]], 0)
    assert data.given == {}
    assert data.modality.conditions == {}
    close(data.targets(data.target)[:, 0], (10, 20, 60), 0)
    assert data.target.means == (30.0,)
    other = table(tmp_path, "label,b,a,y\nz,50,10,90\n", "other.csv")
    found = read_with_target(other, data.modality, data.target)
    assert found.modality == data.modality
    close(found.values, [[10, 50]], 0)
    close(found.targets(data.target), [[90]], 0)


def test_label_target_is_not_a_condition() -> None:
    whole = read("example:digits")
    data = select_target(whole, ("label",))
    assert isinstance(data.modality, Images)
    assert data.modality.conditions == data.given == {}
    assert data.target.classes == whole.modality.classes
    assert data.target.num_outputs == 10
    assert torch.equal(data.targets(data.target)[:, 0].long(), whole.given["label"])
    test, truth = read_with_target("example:digits/test", data.modality, data.target), read("example:digits/test")
    assert torch.equal(test.targets(data.target)[:, 0].long(), truth.given["label"])


def test_targets_follow_splits_and_batches(tmp_path: pathlib.Path) -> None:
    text = "a,y\n" + "".join(f"{i},{3 * i}\n" for i in range(40))
    data = select_target(read(table(tmp_path, text)), ("y",))
    train, held_out = split(data, 0.25, Rng(0))
    for part in (train, held_out, data.with_modality(data.modality)):
        close(part.targets(part.target)[:, 0], (3 * part.values[:, 0]).tolist(), 0)
    batch = batch_loader(train, 8, Rng(0))(0, slice(None))
    close(batch["target"][:, 0], (3 * data.modality.decode(batch["x_1"])[:, 0]).tolist(), 1e-4)
    assert "target" not in batch_loader(read(table(tmp_path, text)), 8, Rng(0))(0, slice(None))


@pytest.mark.parametrize(
    ("comments", "names", "error", "found"),
    [
        (("mu=1 gap=5", "mu=2 gap=5"), ("nu",), UsageError, "'nu'"),
        (("mu=1 gap=5", "mu=2 gap=5"), ("mu", "mu"), UsageError, "mu, mu"),
        (("water", "water"), ("mu",), UsageError, "'mu'"),
    ],
    ids=["unknown", "repeated", "none"],
)
def test_invalid_targets_are_refused(
    tmp_path: pathlib.Path, comments: tuple[str, ...], names: tuple[str, ...], error: type[Exception], found: str | None
) -> None:
    with refuses(error, found=found):
        select_target(read(str(molecules(tmp_path, *comments))), names)


@pytest.mark.parametrize(("name", "value"), [("y", "0.1"), ("label", "same")])
def test_constant_targets_are_refused(tmp_path: pathlib.Path, name: str, value: str) -> None:
    """The standard deviation of 300 times 0.1 is above 0 by rounding."""
    data = read(table(tmp_path, f"a,b,{name}\n" + "".join(f"{i},{i % 7},{value}\n" for i in range(300))))
    with refuses(InputError, argument=name, found="a constant"):
        select_target(data, (name,))


def test_tables_and_files_without_the_target_are_refused(tmp_path: pathlib.Path) -> None:
    whole = select_target(read(str(molecules(tmp_path, "mu=1", "mu=2"))), ("mu",))
    with refuses(InputError):
        read_with_target(str(molecules(tmp_path, "water")), whole.modality, whole.target)
    data = read(table(tmp_path, "a,b\n1,2\n2,5\n5,6\n"))
    for names in (("a", "b"), ("a=1",)):  # nothing left to predict from; no classes
        with refuses(UsageError):
            select_target(data, names)


@pytest.mark.parametrize(
    ("names", "argument", "found"),
    [
        (("label=3,x",), "label", "'x'"),
        (("label=3",), "target", "3"),
        (("label=3,3",), "target", "3, 3"),
        (("label", "label"), "target", "label, label"),
    ],
)
def test_invalid_classes_are_refused(names: tuple[str, ...], argument: str, found: str) -> None:
    with refuses(UsageError, argument=argument, found=found):
        select_target(read("example:digits"), names)


def test_chosen_classes() -> None:
    """Examples of other classes are dropped; classes are numbered in the given order."""
    data = read("example:digits")
    whole, some = select_target(data, ("label",)), select_target(data, ("label=8,3",))
    assert some.target == Target(("label",), classes=("8", "3"), all_classes=tuple("0123456789"))
    labels = data.given["label"]
    assert torch.equal(some.values, data.values[(labels == 8) | (labels == 3)])
    assert some.targets(some.target)[:, 0].tolist() == [
        float(label == 3) for label in labels.tolist() if label in (3, 8)
    ]
    test = read_with_target("example:digits/test", some.modality, some.target)
    labels_of_test = read("example:digits/test").given["label"]
    assert test.targets(some.target)[:, 0].tolist() == [float(x == 3) for x in labels_of_test.tolist() if x in (3, 8)]
    assert whole.target == Target(("label",), classes=tuple("0123456789"))


def test_categorical_column_target(tmp_path: pathlib.Path) -> None:
    """The column remains a value; rows with a missing cell are dropped."""
    schema = Schema(
        (Categorical("job", ("clerk", "nurse", "smith"), missing="?"), Numerical("age", 0.0, 100.0, bins=5))
    )
    data = read(table(tmp_path, "job,age\nnurse,20\n?,30\nclerk,40\nsmith,50\n"), schema=schema)
    found = select_target(data, ("job",))
    assert found.target == Target(("job",), classes=("clerk", "nurse", "smith"))
    assert found.targets(found.target)[:, 0].tolist() == [1, 0, 2]
    assert torch.equal(found.values, data.values[[0, 2, 3]])
    chosen = select_target(data, ("job=smith,nurse",))
    assert chosen.targets(chosen.target)[:, 0].tolist() == [1, 0]
    reloaded = read_with_target(
        table(tmp_path, "job,age\nsmith,20\nclerk,30\n", "u.csv"), chosen.modality, chosen.target
    )
    assert reloaded.targets(chosen.target)[:, 0].tolist() == [0]
