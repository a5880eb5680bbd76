"""Types of conditions: recognition, encoding, null values and refusals."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import feller
from feller.core.errors import FellerWarning, InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.conditions.categories import CategoryCondition, SetCondition
from feller.data.conditions.condition import Condition
from feller.data.conditions.image_condition import ImageCondition
from feller.data.conditions.numbers import NumberCondition, VectorCondition, vector_cells
from feller.data.conditions.recognition import fit_condition
from feller.data.conditions.texts import SubwordCondition, TextCondition
from feller.models.given_conditions import resolve_given
from tests.errors import refuses

COLUMNS = {
    "numbers as texts": (["1", "2.5", "", "-4"], NumberCondition),
    "numbers": (np.array([1.0, np.nan, 3.0]), NumberCondition),
    "categories": (["red", "blue", "", "red"], CategoryCondition),
    "sets": (["red|blue", "blue", "", "green"], SetCondition),
    "sets of Python": ([{"red"}, {"red", "blue"}, set()], SetCondition),
    "vectors": (np.array([[1.0, 2.0], [3.0, 4.0]]), VectorCondition),
    "texts": (["red car", "blue bike", "", "red bike"], TextCondition),
    "images": (np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), ImageCondition),
    "gray fields": (np.linspace(-2, 3, 18).reshape(2, 3, 3), ImageCondition),
    "vectors as texts": (["1 2", "3 4.5"], VectorCondition),
}


@pytest.mark.parametrize(("column", "kind"), COLUMNS.values(), ids=COLUMNS)
def test_type_is_recognised_and_recorded(column: object, kind: type[Condition]) -> None:
    condition = fit_condition("caption" if kind is TextCondition else "c", column)
    assert type(condition) is kind
    assert from_dict(Condition, to_dict(condition)) == condition


@pytest.mark.parametrize(("column", "kind"), COLUMNS.values(), ids=COLUMNS)
def test_decoded_values_are_encoded_to_the_same(column: object, kind: type[Condition]) -> None:
    condition = fit_condition("caption" if kind is TextCondition else "c", column)
    values = condition.encode("c", column)
    decoded = condition.decode(values)
    again = condition.encode("c", vector_cells(decoded) if decoded.ndim == 2 else decoded)
    torch.testing.assert_close(again, values, equal_nan=True, rtol=0, atol=0)


def test_statistics_leave_out_missing_numbers() -> None:
    condition = fit_condition("c", ["1", "", "4", "7"])
    assert condition == NumberCondition(mean=4.0, scale=float(np.std([1, 4, 7])), low=1.0, high=7.0)


def test_empty_set_is_not_null() -> None:
    condition = fit_condition("c", ["a|b", "b", ""])
    values = condition.encode("c", [set(), ""])
    assert condition.is_null(values).tolist() == [False, True]
    assert values[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("column", [["1", "2"], ["a", "b"], ["a|b", "b"], ["1 2", "3 4"]])
def test_null_values_are_null(column: list[str]) -> None:
    condition = fit_condition("c", column)
    assert condition.is_null(condition.null_values(3)).all()
    assert not condition.is_null(condition.encode("c", column)).any()


@pytest.mark.parametrize(
    "column", [["1", "1"], ["a", "a", ""], ["a|b", "b|a"], ["", ""], ["1 2", "1 2"]], ids=lambda column: column[0]
)
def test_constant_or_missing_column_is_refused(column: list[str]) -> None:
    with refuses(InputError, argument="c"):
        fit_condition("c", column)


@pytest.mark.parametrize("value", ["abc", "inf", [1.0, 2.0]])
def test_invalid_number_is_refused(value: object) -> None:
    with refuses(UsageError, argument="c"):
        fit_condition("c", ["1", "2"]).parse("c", value, 3)


def test_closest_category_is_suggested() -> None:
    with refuses(UsageError, argument="c") as caught:
        fit_condition("c", ["red", "blue"]).parse("c", "blu", 1)
    assert "blue" in str(caught.value.remedy)


def test_sets_are_given_by_their_elements() -> None:
    condition = fit_condition("c", ["a|b", "b", "c"])
    for value in ("1", "a|z", 2):
        with refuses(UsageError, argument="c", expected="one of a, b, c"):
            condition.parse("c", value, 1)
    expected = [[1, 1, 0], [0, 1, 1]]
    assert condition.parse("c", np.array([["a", "b"], ["b", "c"]]), 2).tolist() == expected
    assert condition.parse("c", torch.tensor(expected), 2).tolist() == expected
    for vectors, found in ((torch.ones(2, 2), "[2, 2]"), (np.full((1, 3), 0.5), "0.5")):
        with refuses(UsageError, argument="c", found=found):
            condition.parse("c", vectors, len(vectors))


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (torch.tensor([0, 3]), "[0, 3]"),
        (torch.tensor([-1, 0]), "[-1, 0]"),
        (torch.tensor([0.0, 1.0]), "torch.float32 [2]"),
        (torch.tensor([True, False]), "torch.bool [2]"),
        (torch.zeros(2, 1, dtype=torch.int64), "torch.int64 [2, 1]"),
    ],
)
def test_indices_of_categories_and_labels_are_checked_alike(ids: torch.Tensor, found: str) -> None:
    """The null value 2 is allowed."""
    condition = fit_condition("c", ["a", "b"])
    assert condition.parse("c", torch.tensor([2, 0]), 2).tolist() == [2, 0]
    with refuses(UsageError, argument="c", found=found):
        condition.parse("c", ids, 2)
    model = feller.Model(lambda x, t, label: -x, data=(2,), classes=("a", "b"))
    with refuses(UsageError, argument="label", found=found):
        resolve_given(model.spec, 2, {"label": ids}, Rng(0))


def test_one_value_or_one_per_sample() -> None:
    condition = fit_condition("c", ["1", "2"])
    assert condition.parse("c", 1.5, 2).tolist() == condition.parse("c", "1.5", 2).tolist() == [1.5, 1.5]
    assert (
        condition.parse("c", [1, "2"], 2).tolist() == condition.parse("c", torch.tensor([1, 2]), 2).tolist() == [1, 2]
    )
    vectors = fit_condition("c", np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert vectors.parse("c", [1, 2], 3).tolist() == [[1, 2]] * 3
    assert vectors.parse("c", [[1, 2], [3, 4]], 2).tolist() == [[1, 2], [3, 4]]


def test_range_outside_training_is_described() -> None:
    condition = fit_condition("c", ["1", "2"])
    assert condition.outside(torch.tensor([1.5, float("nan")]).double()) is None
    assert condition.outside(torch.tensor([2.5]).double()) == "1 to 2"


def frame() -> pd.DataFrame:
    return pd.DataFrame({"y": [0.5, 1.5, 2.5], "x": [1.0, np.nan, 3.0], "colour": ["red", "blue", "red"]})


def test_columns_become_conditions() -> None:
    data = feller.read(frame(), condition=["x", "colour"])
    assert data.modality.columns == ("y",)
    torch.testing.assert_close(data.given["x"], torch.tensor([1, float("nan"), 3]).double(), equal_nan=True)
    assert data.given["colour"].tolist() == [1, 0, 1]


def test_columns_that_can_be_conditions() -> None:
    series = pd.DataFrame(
        {"id": [0, 0, 0, 1, 1], "t": [0, 1, 2, 0, 1], "x": [1.0, np.nan, 3, 4, 5], "age": [3, 3, 3, 7, 7]}
    )
    expected = (
        (series, ("age",)),
        (series.drop(columns="t"), ("id", "x", "age")),
        (frame(), ("y", "x", "colour")),
        (np.arange(256, dtype=np.uint8).reshape(4, 8, 8), ()),
    )
    for source, columns in expected:
        data = feller.read(source.dropna() if columns == ("id", "x", "age") else source)
        assert data.modality.condition_columns(data.values) == columns


def test_file_arrays_and_frame_agree(tmp_path) -> None:
    frame().to_csv(tmp_path / "rows.csv", index=False)
    np.savez(tmp_path / "rows.npz", samples=frame()[["y"]].to_numpy(), x=frame()["x"].to_numpy())
    from_frame, from_csv = (
        feller.read(frame(), condition=["x", "colour"]),
        feller.read(tmp_path / "rows.csv", condition=["x", "colour"]),
    )
    arrays = feller.read(tmp_path / "rows.npz", condition=["x"])
    assert from_frame.modality == from_csv.modality
    for data in (from_csv, arrays):
        torch.testing.assert_close(data.given["x"], from_frame.given["x"], equal_nan=True)
    torch.testing.assert_close(arrays.values, from_frame.values)


def test_rows_are_read_again_with_or_without_conditions() -> None:
    modality = feller.read(frame(), condition=["x", "colour"]).modality
    again = feller.read(frame().iloc[:2], like=modality)
    assert again.given["colour"].tolist() == [1, 0]
    assert not feller.read(frame()[["y"]], like=modality).given


def test_unknown_column_is_refused_with_the_nearest() -> None:
    with refuses(UsageError, argument="condition") as caught:
        feller.read(frame(), condition=["color"])
    assert "colour" in str(caught.value.remedy)


def test_more_conditions_than_rows_are_refused() -> None:
    with pytest.raises(InputError):
        feller.read(frame().iloc[:1], condition=["x", "colour"])


def test_no_column_left_is_refused() -> None:
    with pytest.raises(InputError):
        feller.read(frame(), condition=["x", "y", "colour"])


def test_samples_keep_their_conditions(tmp_path) -> None:
    data = feller.read(frame(), condition=["x", "colour"])
    data.save(tmp_path / "samples.csv")
    again = feller.read(tmp_path / "samples.csv", like=data.modality)
    assert again.given["colour"].tolist() == [1, 0, 1]
    assert list(data.frame()) == ["y", "x", "colour"]


def test_long_texts_are_cut_with_one_warning() -> None:
    condition = fit_condition("caption", ["a", "b" * 300])
    with pytest.warns(FellerWarning) as caught:
        tokens = condition.encode("caption", ["a", "b" * 300, "b" * 256, "a" + "b" * 256])
    assert len(caught) == 1
    assert "2 of 4" in str(caught[0].message)
    assert condition.decode(tokens).tolist() == ["a", "b" * 256, "b" * 256, "a" + "b" * 255]
    with refuses(UsageError, argument="caption"):
        condition.parse("caption", "a bus", 1)


def sentences() -> list[str]:
    pairs = [(colour, shape) for colour in ("red", "blue") for shape in ("bar", "disc")]
    return [f"{colour} {shape} number {i}" for colour, shape in pairs for i in range(60)]


def test_many_sentences_are_subwords() -> None:
    condition = fit_condition("caption", sentences())
    assert type(condition) is SubwordCondition
    assert from_dict(Condition, to_dict(condition)) == condition
    tokens = condition.encode("caption", [*sentences(), ""])
    assert condition.decode(tokens).tolist() == [*sentences(), ""]
    assert condition.is_null(tokens).tolist() == [False] * 240 + [True]
    num_tokens = (tokens != condition.null).sum(1)
    assert num_tokens[:-1].max() <= 5  # the words that all texts share are one token each
    assert condition.decode(condition.encode("caption", ["disc red"])).tolist() == ["disc red"]
    with refuses(UsageError, argument="caption"):
        condition.parse("caption", "red zebra", 1)
    with pytest.warns(FellerWarning):
        assert condition.encode("caption", ["red " * 200]).shape == (1, condition.length)


def test_fewer_sentences_or_single_words_are_characters() -> None:
    assert type(fit_condition("caption", sentences()[:199])) is TextCondition
    assert type(fit_condition("caption", [text.replace(" ", "-") for text in sentences()])) is TextCondition


def test_many_distinct_texts_are_no_categories() -> None:
    assert type(fit_condition("name", [f"thing {i}" for i in range(1001)])) is SubwordCondition
    assert type(fit_condition("name", [f"thing {i}" for i in range(1000)] * 2)) is CategoryCondition
    assert type(fit_condition("name", [f"thing {i}" for i in range(101)])) is TextCondition


def test_texts_of_many_characters_are_bytes() -> None:
    texts = [chr(300 + k) * 2 for k in range(300)]
    condition = fit_condition("caption", texts)
    assert not condition.symbols
    assert condition.decode(condition.encode("caption", texts)).tolist() == texts


def test_images_of_a_folder_are_one_for_each_sample(tmp_path) -> None:
    condition = ImageCondition(1, 1, 1)
    for i in (0, 1):
        (tmp_path / f"class {1 - i}").mkdir()
        Image.fromarray(np.full((2, 2), 255 * i, dtype=np.uint8)).save(tmp_path / f"class {1 - i}" / f"{i}.png")
    assert condition.parse("small", str(tmp_path), 2).flatten().tolist() == [-1, 1]
    with refuses(UsageError, argument="small"):
        condition.parse("small", str(tmp_path), 3)
    (tmp_path / "empty").mkdir()
    with refuses(UsageError, file=str(tmp_path / "empty")):
        condition.parse("small", str(tmp_path / "empty"), 1)


def test_images_are_read_from_files_and_resized(tmp_path) -> None:
    condition = fit_condition("small", np.arange(32, dtype=np.uint8).reshape(2, 2, 2, 4)[..., :3])
    Image.fromarray(np.full((6, 6, 3), 255, dtype=np.uint8)).save(tmp_path / "a.png")
    assert torch.equal(condition.parse("small", str(tmp_path / "a.png"), 2), torch.ones(2, 3, 2, 2))
    (tmp_path / "b.png").write_text("no image")
    for wrong in (str(tmp_path / "b.png"), str(tmp_path / "c.png"), np.zeros((3, 2, 3))):
        with refuses(UsageError, argument="small"):
            condition.parse("small", wrong, 1)


def test_tensors_of_categories_are_indices_and_cells_are_names() -> None:
    condition = CategoryCondition(("-1", "0", "x"))
    assert condition.encode("c", ["-1", "0", ""]).tolist() == [0, 1, 3]
    assert condition.encode("c", torch.tensor([0, 1, 3])).tolist() == [0, 1, 3]
    assert condition.parse("c", torch.tensor([0, 1, 3]), 3).tolist() == [0, 1, 3]
    for wrong in (torch.tensor([4]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor([[0]])):
        with refuses(InputError, argument="c"):
            condition.encode("c", wrong)


def test_cells_of_new_data_are_no_indices() -> None:
    condition = fit_condition("c", ["high", "low", "mid"])
    assert condition.parse("c", 1, 1).tolist() == [1]
    with refuses(InputError, argument="c"):
        condition.encode("c", ["1"])


@pytest.mark.parametrize("missing", ["NA", "null", "?", "-", "N/A", None, pd.NA, float("nan")])
def test_missing_numbers_in_usual_notations(missing: object) -> None:
    column = [1.0, missing, 3.0]
    condition = fit_condition("c", column)
    assert condition == NumberCondition(mean=2.0, scale=1.0, low=1.0, high=3.0)
    assert condition.is_null(condition.encode("c", column)).tolist() == [False, True, False]


def test_complex_numbers_are_refused() -> None:
    with refuses(InputError, argument="c"):
        fit_condition("c", np.array([1 + 2j, 2]))


def test_huge_integers_are_refused() -> None:
    with refuses(UsageError, argument="c"):
        fit_condition("c", ["1", "2"]).parse("c", 10**400, 1)


def test_vectors_that_are_incomplete_null_or_numbers() -> None:
    vectors = fit_condition("c", np.array([[1.0, 2.0], [3.0, 4.0]]))
    for null in ("", None):
        assert vectors.is_null(vectors.parse("c", null, 2)).all()
    for wrong in ("1 nan", [1.0, float("nan")], 1.0, np.float64(1), torch.tensor(1.0)):
        with refuses(UsageError, argument="c"):
            vectors.parse("c", wrong, 1)
    assert vectors.outside(torch.tensor([[2.0, 3.0]]).double()) is None
    assert vectors.outside(torch.tensor([[2.0, 1e9]]).double())


def test_images_of_other_sizes_or_units() -> None:
    images = fit_condition("c", np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3))
    for wrong in ([np.zeros((2, 2, 3)), np.zeros((2, 1, 3))], [], np.full((1, 2, 2, 3), 0.5)):
        with refuses(UsageError, argument="c"):
            images.parse("c", wrong, 1)
    field = fit_condition("c", np.linspace(-2, 3, 18).reshape(2, 3, 3))
    assert field.outside(field.parse("c", np.full((1, 3, 3), 3.0), 1)) is None
    assert field.outside(field.parse("c", np.full((1, 3, 3), 4.0), 1)) == "-2 to 3"


def test_rows_of_values_for_each_sample() -> None:
    number = fit_condition("c", ["1", "2"])
    assert number.rows([1, 2, 3], slice(1, 3)) == [2, 3]
    assert number.rows(1.5, slice(1, 3)) == 1.5
    vectors = fit_condition("c", np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert vectors.rows([1, 2], slice(1, 2)) == [1, 2]
    assert vectors.rows([[1, 2], [3, 4]], slice(1, 2)) == [[3, 4]]
