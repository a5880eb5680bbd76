"""What files tell of examples beside their values, and data of which some of it is asked."""

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
from feller.data.modality import Dataset, Target
from feller.data.tables.column import Categorical
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
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


def test_comments_tell_numbers(tmp_path: pathlib.Path) -> None:
    comments = ['mu=1.5 smiles=CC=O Lattice="5 0 0" energy=-2e1', "mu=2.5 pbc=F energy=nan", "water, mu = 7"]
    data = read(str(molecules(tmp_path, *comments)))
    assert data.properties.keys() == {"mu", "energy"}
    close(data.properties["mu"][:2], (1.5, 2.5), 0)
    close(data.properties["energy"][:1], (-20.0,), 0)
    assert data.properties["mu"].isnan().tolist() == [False, False, True]
    assert data.properties["energy"].isnan().tolist() == [False, True, True]
    assert data.target is None
    assert data.subset(torch.tensor([1])).properties["mu"].item() == 2.5


def test_files_of_qm9_tell_under_their_usual_names(tmp_path: pathlib.Path) -> None:
    """The first molecule of the set, methane: its gap is lumo less homo."""
    numbers = "157.7118 157.70997 157.70699 0. 13.21 -0.3877 0.1171 0.5048 35.3641 0.044749 -40.47893 -40.476062"
    comment = f"gdb 1\t{numbers} -40.475117 -40.498597 6.469"
    text = f"3\n{comment}\n{WATER}1341.307 1341.3284\nC\tC\nInChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4\n"
    (tmp_path / "a.xyz").write_text(text + text)
    told = {name: numbers[0].item() for name, numbers in read(str(tmp_path / "a.xyz")).properties.items()}
    assert told["mu"] == 0.0
    assert told["alpha"] == 13.21
    assert math.isclose(told["lumo"] - told["homo"], told["gap"], abs_tol=1e-9)
    assert told["Cv"] == 6.469
    assert len(told) == 15


def test_records_tell_numbers(tmp_path: pathlib.Path) -> None:
    head = "x\n  feller  01012000003D\n\n  3  0  0  0  0  0  0  0  0  0999 V2000\n"
    atoms = "".join(
        f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0\n"
        for symbol, x, y, z in (("O", 0, 0, 0.119), ("H", 0, 0.763, -0.477), ("H", 0, -0.763, -0.477))
    )
    first = "> <energy>\n-76.4\n\n>  1 <gap>  (7)\n0.5\n\n> <name>\nwater\n\n$$$$\n"
    (tmp_path / "a.sdf").write_text(f"{head}{atoms}M  END\n{first}{head}{atoms}M  END\n$$$$\n")
    told = read(str(tmp_path / "a.sdf")).properties
    assert told.keys() == {"energy", "gap"}
    close(torch.stack([told["energy"][0], told["gap"][0]]), (-76.4, 0.5), 0)
    assert told["energy"].isnan().tolist() == [False, True]


def test_columns_beside_crystals_tell_numbers(tmp_path: pathlib.Path) -> None:
    data = read("example:perovskites").subset(torch.arange(3))
    data.modality.write(data.values, data.given, tmp_path / "c.csv")
    rows = list(csv.reader(io.StringIO((tmp_path / "c.csv").read_text())))
    more = [["energy", "name", "gap"], ["-1.5", "a", "1"], ["-2.5", "b", ""], ["-3.5", "7", "3"]]
    text = io.StringIO()
    csv.writer(text).writerows([row + extra for row, extra in zip(rows, more, strict=True)])
    (tmp_path / "d.csv").write_text(text.getvalue())
    told = read(str(tmp_path / "d.csv")).properties
    assert told.keys() == {"energy", "gap"}
    close(told["energy"], (-1.5, -2.5, -3.5), 0)
    assert told["gap"].isnan().tolist() == [False, True, False]


def test_examples_without_the_target_are_left_out_with_a_note(tmp_path: pathlib.Path) -> None:
    data = select_target(read(str(molecules(tmp_path, "mu=1 gap=5", "mu=2", "mu=4 gap=9"))), ("mu", "gap"))
    assert len(data) == 2
    assert data.target == Target(("mu", "gap"), (2.5, 7.0), (1.5, 2.0))
    assert any(note == "dropped 1 examples without mu, gap" for note in data.notes)
    close(data.targets(data.target), [[1.0, 5.0], [4.0, 9.0]], 0)
    assert not select_target(read(str(molecules(tmp_path, "mu=1", "mu=2"))), ("mu",)).notes


def test_a_column_that_is_asked_for_is_no_value(tmp_path: pathlib.Path) -> None:
    place = table(tmp_path, "a,y,b,label\n1,10,5,x\n2,20,6,z\n3,60,7,x\n")
    data = select_target(read(place), ("y",))
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


def test_labels_are_asked_for_and_not_given() -> None:
    whole = read("example:digits")
    data = select_target(whole, ("label",))
    assert isinstance(data.modality, Images)
    assert data.modality.conditions == data.given == {}
    assert data.target.classes == whole.modality.classes
    assert data.target.num_outputs == 10
    assert torch.equal(data.targets(data.target)[:, 0].long(), whole.given["label"])
    test, truth = read_with_target("example:digits/test", data.modality, data.target), read("example:digits/test")
    assert torch.equal(test.targets(data.target)[:, 0].long(), truth.given["label"])


def test_the_target_goes_with_its_examples(tmp_path: pathlib.Path) -> None:
    text = "a,y\n" + "".join(f"{i},{3 * i}\n" for i in range(40))
    data = select_target(read(table(tmp_path, text)), ("y",))
    train, held_out = split(data, 0.25, Rng(0))
    for part in (train, held_out, data.with_modality(data.modality)):
        close(part.targets(part.target)[:, 0], (3 * part.values[:, 0]).tolist(), 0)
    batch = batch_loader(train, 8, Rng(0))(0, slice(None))
    close(batch["target"][:, 0], (3 * data.modality.decode(batch["x_1"])[:, 0]).tolist(), 1e-4)
    assert "target" not in batch_loader(read(table(tmp_path, text)), 8, Rng(0))(0, slice(None))


@pytest.mark.parametrize(
    ("names", "error", "told"),
    [
        (("nu",), UsageError, "target: expected"),
        (("mu", "mu"), UsageError, "expected distinct numeric targets"),
        (("gap",), InputError, "all examples have the same gap"),
    ],
)
def test_what_is_not_there_is_told(
    tmp_path: pathlib.Path, names: tuple[str, ...], error: type[Exception], told: str
) -> None:
    data = read(str(molecules(tmp_path, "mu=1 gap=5", "mu=2 gap=5")))
    with pytest.raises(error, match=told):
        select_target(data, names)


def test_data_that_tell_nothing(tmp_path: pathlib.Path) -> None:
    plain: Dataset = read(str(molecules(tmp_path, "water", "water")))
    with refuses(UsageError, argument="target", found="'mu'"):
        select_target(plain, ("mu",))
    whole = select_target(read(str(molecules(tmp_path, "mu=1", "mu=2"))), ("mu",))
    other = molecules(tmp_path, "water")
    with pytest.raises(InputError, match="has no values of the target mu"):
        read_with_target(str(other), whole.modality, whole.target)
    with pytest.raises(UsageError, match="all columns are targets"):
        select_target(read(table(tmp_path, "a,b\n1,2\n2,5\n")), ("a", "b"))


def test_some_classes_may_be_chosen() -> None:
    """Others are left out, and the classes are numbered in the order in which they are named."""
    data = read("example:digits")
    whole, some = select_target(data, ("label",)), select_target(data, ("label=8,3",))
    assert some.target == Target(("label",), classes=("8", "3"), all_classes=tuple("0123456789"))
    labels = data.given["label"]
    assert torch.equal(some.values, data.values[(labels == 8) | (labels == 3)])
    assert some.targets(some.target)[:, 0].tolist() == [
        float(label == 3) for label in labels.tolist() if label in (3, 8)
    ]
    test = read_with_target("example:digits/test", some.modality, some.target)
    theirs = read("example:digits/test").given["label"]
    assert test.targets(some.target)[:, 0].tolist() == [float(x == 3) for x in theirs.tolist() if x in (3, 8)]
    assert whole.target == Target(("label",), classes=tuple("0123456789"))


def test_a_column_of_words_is_a_class_of_a_table(tmp_path: pathlib.Path) -> None:
    """It stays in its rows; missing cells are of no class."""
    schema = Schema(
        (Categorical("job", ("clerk", "nurse", "smith"), missing="?"), Numerical("age", 0.0, 100.0, bins=5))
    )
    data = read(table(tmp_path, "job,age\nnurse,20\n?,30\nclerk,40\nsmith,50\n"), schema=schema)
    found = select_target(data, ("job",))
    assert found.target == Target(("job",), classes=("clerk", "nurse", "smith"))
    assert found.targets(found.target)[:, 0].tolist() == [1, 0, 2]
    assert torch.equal(found.values, data.values[[0, 2, 3]])
    two = select_target(data, ("job=smith,nurse",))
    assert two.targets(two.target)[:, 0].tolist() == [1, 0]
    again = read_with_target(table(tmp_path, "job,age\nsmith,20\nclerk,30\n", "u.csv"), two.modality, two.target)
    assert again.targets(two.target)[:, 0].tolist() == [0]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("label=3,x",), "label: expected"),
        (("label=3",), "two distinct classes of label; found 3"),
        (("label=3,3",), "two distinct classes of label"),
        (("label", "label"), "distinct numeric targets"),
    ],
)
def test_wrong_classes(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        select_target(read("example:digits"), names)


def test_of_numbers_none_is_chosen(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="categorical target only"):
        select_target(read(table(tmp_path, "a,b\n1,2\n3,4\n5,6\n")), ("a=1",))
