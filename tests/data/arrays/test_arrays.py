"""Arrays with channels: file formats, standardisation, missing entries, unequal lengths and bad input."""

import pathlib

import numpy as np
import pandas as pd
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.arrays.missing import fill_missing
from feller.data.arrays.modality import Arrays, array_dataset
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawArrays
from feller.data.modality import Modality
from feller.data.points.euclidean_points import Points
from tests.errors import refuses

GENERATOR = np.random.default_rng(0)
SHAPES = [(7, 2), (5, 6, 1), (3, 4, 5, 2)]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(3, 2, size=shape)


def long_table(lengths: tuple[int, ...] = (5, 3, 5, 4), step: float = 0.5) -> pd.DataFrame:
    rows = [(f"s{i}", k * step, i + 0.1 * k, 7 - k) for i, length in enumerate(lengths) for k in range(length)]
    return pd.DataFrame(rows, columns=["id", "t", "x", "y"])


def written(table: pd.DataFrame, folder: pathlib.Path, name: str = "a.csv") -> str:
    path = folder / name
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return str(path)


def arrays_of(path: object, **options: object) -> tuple[Arrays, torch.Tensor, dict]:
    data = read(path, **options)  # type: ignore[arg-type]
    assert isinstance(data.modality, Arrays)
    return data.modality, data.values, data.given


@pytest.mark.parametrize("shape", SHAPES)
def test_standardised_per_channel(shape: tuple[int, ...]) -> None:
    values = normal(40, *shape) * np.arange(1, shape[-1] + 1)
    data = array_dataset(RawArrays(values))
    states = data.modality.encode(data.values)
    assert states.shape == (40, *data.modality.space().shape) == values.shape
    flat = states.double().flatten(0, -2)
    torch.testing.assert_close(flat.mean(0), torch.zeros(shape[-1]).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.std(0, correction=0), torch.ones(shape[-1]).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.modality.decode(states), data.values, atol=1e-4, rtol=1e-5)
    expected = np.log(values.reshape(-1, shape[-1]).std(0)).sum() * np.prod(shape[:-1])
    assert data.modality.log_scale == pytest.approx(expected)
    assert from_dict(Modality, to_dict(data.modality)) == data.modality


@pytest.mark.parametrize(("offset", "scale"), [(1e9, 1.0), (0.0, 1e50), (3e200, 1e200), (0.0, 1e-200)])
def test_large_offsets_and_extreme_scales_are_standardised_exactly(offset: float, scale: float) -> None:
    values = offset + scale * normal(200, 8, 1)
    data = array_dataset(RawArrays(np.concatenate([values, normal(200, 8, 1)], 2)))
    states = data.modality.encode(data.values)
    assert states.std((0, 1), correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)
    decoded = data.modality.decode(states)[..., :1].numpy()
    np.testing.assert_allclose(decoded, values, atol=1e-5 * scale, rtol=0)
    assert array_dataset(RawArrays(normal(200, 8, 1))).values.dtype == torch.float32


def test_a_range_beyond_floats_is_refused() -> None:
    values = normal(20, 5, 1)
    values[0, 0], values[1, 1] = -1.7e308, 1.7e308
    with refuses(InputError, column="channel 1"):
        read(values)


@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_of_files_and_memory(shape: tuple[int, ...], tmp_path: pathlib.Path) -> None:
    values = normal(20, *shape)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", samples=values, labels=np.arange(20) % 2)
    for source in (str(tmp_path / "a.npy"), str(tmp_path / "a.npz"), values):
        modality, found, given = arrays_of(source)
        assert torch.equal(found, torch.from_numpy(values).float())
        assert modality.shape == shape
        assert ("label" in given) == (isinstance(source, str) and source.endswith(".npz"))


def test_signals_images_and_points_are_told_apart(tmp_path: pathlib.Path) -> None:
    rows = normal(20, 6)
    assert isinstance(read(rows).modality, Points)
    modality, values, _ = arrays_of(rows, kind=RawArrays)
    assert modality.shape == (6, 1)
    assert values.shape == (20, 6, 1)
    assert isinstance(read(GENERATOR.integers(0, 255, (20, 6, 6)).astype(float)).modality, Images)
    with refuses(InputError):
        read(GENERATOR.uniform(size=(20, 6, 6, 3)))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_series_of_long_tables(name: str, tmp_path: pathlib.Path) -> None:
    table = long_table()
    table["label"] = np.where(table["id"] == "s1", "odd", "even")
    modality, values, given = arrays_of(written(table.sample(frac=1, random_state=0), tmp_path, name))
    assert (modality.shape, modality.columns, modality.step) == ((5, 2), ("x", "y"), 0.5)
    assert modality.lengths == ("3", "4", "5")
    order = values[:, 0, 0].argsort()
    assert given["steps"][order].tolist() == [2, 0, 2, 1]
    assert given["label"][order].tolist() == [0, 1, 0, 0]
    assert values[order][1, :, 1].nan_to_num(-1).tolist() == [7, 6, 5, -1, -1]
    assert torch.equal(given["valid"], ~values.isnan())
    derived = modality.add_derived_conditions({"steps": given["steps"]})["valid"]
    assert torch.equal(derived, given["valid"].all(2))
    assert modality.log_scale is None


def test_steps_without_a_row_and_empty_cells_are_missing(tmp_path: pathlib.Path) -> None:
    table = long_table((5, 5, 5))
    table.loc[7, "x"] = np.nan
    modality, values, given = arrays_of(written(table.drop(index=2), tmp_path))
    assert (modality.lengths, modality.has_missing) == ((), True)
    assert values.isnan().nonzero().tolist() == [[0, 2, 0], [0, 2, 1], [1, 2, 0]]
    assert torch.equal(given["valid"], ~values.isnan())
    states = modality.encode(values)
    torch.testing.assert_close(states[0, 2], (states[0, 1] + states[0, 3]) / 2)


def test_files_of_samples_are_read_back(tmp_path: pathlib.Path) -> None:
    table = long_table()
    table["label"], table["gap"] = "b", table["id"].map({f"s{i}": i for i in range(4)}) * 1.5
    table.loc[table["id"] == "s2", "label"] = "a"
    data = read(written(table, tmp_path), condition=["gap"])
    for name in ("b.csv", "b.npz", "b.parquet"):
        out = tmp_path / name
        data.modality.write(data.values, data.given, out)
        again = read(str(out), like=data.modality)
        torch.testing.assert_close(again.values, data.values, equal_nan=True, msg=name)
        assert all(torch.equal(again.given[key], data.given[key]) for key in data.given), name
    data.modality.write(data.values, data.given, tmp_path / "folder")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"grid.png", "samples.csv"}
    assert torch.equal(read(str(tmp_path / "folder"), like=data.modality).given["steps"], data.given["steps"])


def test_padding_of_samples_is_not_written() -> None:
    data = array_dataset(RawArrays(np.where(np.arange(6)[:, None] < [[[6]], [[4]]], normal(2, 6, 1), np.nan)))
    given = {"steps": data.given["steps"]}
    frame = data.modality.frame(torch.ones(2, 6, 1), given)
    assert frame["id"].value_counts().to_dict() == {0: 6, 1: 4}
    assert np.isnan(data.modality.arrays(torch.ones(2, 6, 1), given)["samples"][1, 4:]).all()


def test_shorter_series_fit_a_model(tmp_path: pathlib.Path) -> None:
    data = array_dataset(RawArrays(np.where(np.arange(6)[:, None] < [[[6]], [[4]]], normal(2, 6, 1), np.nan)))
    again = read(normal(3, 4, 1), like=data.modality)
    assert again.values.shape == (3, 6, 1)
    assert again.given["steps"].tolist() == [0, 0, 0]
    with refuses(InputError):
        read(normal(3, 7, 1), like=data.modality)


@pytest.mark.parametrize("shape", SHAPES)
def test_figures(shape: tuple[int, ...]) -> None:
    data = array_dataset(RawArrays(normal(5, *shape)))
    assert min(data.modality.show(data.values, data.given).size) > 40


def test_interpolation() -> None:
    nan = torch.nan
    x = torch.tensor([[nan, 1.0, nan, nan, 4.0, nan], [nan] * 6, [1.0, 2, 3, 4, 5, 6]])[..., None]
    wanted = torch.tensor([[1.0, 1, 2, 3, 4, 4], [0] * 6, [1, 2, 3, 4, 5, 6]])
    torch.testing.assert_close(fill_missing(x)[..., 0], wanted)


def test_older_arrays_keep_one_mean_and_scale() -> None:
    modality = Arrays((2, 4, 4), 1.0, 2.0)
    values = torch.from_numpy(normal(3, 2, 4, 4)).float()
    torch.testing.assert_close(modality.encode(values), (values - 1) / 2)
    assert modality.log_scale == pytest.approx(32 * np.log(2))
    assert modality.writers.keys() == {".npz", ".npy", ""}


def test_bad_arrays_are_refused(tmp_path: pathlib.Path) -> None:
    constant = normal(20, 5, 2)
    constant[..., 1] = 4
    with refuses(InputError, column="channel 2"):
        read(constant)
    infinite = normal(20, 5, 2)
    infinite[3, 1, 0] = np.inf
    with refuses(InputError):
        read(infinite)
    empty = normal(20, 5, 2)
    empty[3] = np.nan
    with refuses(InputError, row=4):
        read(empty)
    with refuses(InputError):
        read(normal(20, 2, 2, 2, 2, 1))
    values = normal(20, 5, 2)
    mask = np.ones(values.shape, dtype=bool)
    mask[2, 1] = False
    modality, found, _ = arrays_of({"samples": values, "mask": mask})
    assert modality.has_missing
    assert found.isnan().sum() == 2
    ragged = [normal(length, 2) for length in (5, 6)]
    objects = np.empty(2, dtype=object)
    objects[:] = ragged
    for source in (ragged, {"samples": ragged}, {"samples": objects}):
        with refuses(UsageError, argument="data", found="[5, 2] and [6, 2]"):
            read(source)
    values[4, 4, 1] = np.nan  # not marked by the mask
    with refuses(InputError):
        read({"samples": values, "mask": mask})


def test_bad_series_are_refused(tmp_path: pathlib.Path) -> None:
    table = long_table()
    with refuses(InputError, file=str(tmp_path / "a.csv")):
        read(written(table.drop(columns="id"), tmp_path), kind=RawArrays)
    for change in (
        lambda t: t.assign(t=t["t"].where(t.index != 3, 1.3)),  # uneven
        lambda t: t.assign(t=t["t"].where(t.index != 3, 1.0)),  # repeated
        lambda t: t.assign(x=t["x"].astype(object).where(t.index != 3, "high")),
        lambda t: t.assign(t=t["t"].astype(object).where(t.index != 3, "")),
    ):
        with refuses(InputError, file=str(tmp_path / "a.csv"), row=5):
            read(written(change(table), tmp_path))
    with refuses(InputError, column="label"):
        read(written(table.assign(label=table["t"]), tmp_path))
    with refuses(InputError, column="y"):
        read(written(table.assign(y=1), tmp_path))
    with refuses(InputError):
        read(written(table.assign(t=table["t"].where(table.index != 3, 1e6)), tmp_path))


def test_times_of_a_file_follow_the_spacing_of_the_model(tmp_path: pathlib.Path) -> None:
    model = read(written(long_table((5, 5, 5)), tmp_path)).modality
    sparse = long_table((5, 5))
    found = read(written(sparse[sparse["t"].isin([0, 1, 2])], tmp_path, "b.csv"), like=model)
    assert (~found.values.isnan()).all(2).tolist() == [[True, False, True, False, True]] * 2
    with refuses(InputError):
        read(written(long_table((5, 5), step=0.7), tmp_path, "c.csv"), like=model)


def test_rows_stay_at_their_times_if_all_training_series_begin_together(tmp_path: pathlib.Path) -> None:
    table = long_table((5, 5, 5), 1.0).assign(t=lambda table: table["t"] + 2)
    model = read(written(table, tmp_path)).modality
    assert (model.start, model.has_common_start) == (2, True)
    later = table[(table["id"] == "s0") & table["t"].isin([5, 6]) | (table["id"] == "s1") & table["t"].isin([3, 5])]
    found = read(written(later, tmp_path, "b.csv"), like=model)
    present = (~found.values.isnan()).all(2)
    assert present.tolist() == [[False, False, False, True, True], [False, True, False, True, False]]
    x = later["x"].to_numpy(dtype=np.float32)
    np.testing.assert_allclose(found.values[present][:, 0], x)
    for change in (3, -3, 0.4):  # after the last step, before the first, and between two steps
        with refuses(InputError, file=str(tmp_path / "c.csv")):
            read(written(later.assign(t=later["t"] + change), tmp_path, "c.csv"), like=model)


def test_series_that_begin_at_different_times_are_placed_by_their_first_rows(tmp_path: pathlib.Path) -> None:
    table = long_table((5, 5, 5), 1.0)
    table["t"] += table["id"].map({"s0": 0, "s1": 10, "s2": 20})
    model = read(written(table, tmp_path)).modality
    assert (model.start, model.has_common_start) == (0, False)
    later = table[(table["id"] == "s1") & (table["t"] > 12)]
    found = read(written(later, tmp_path, "b.csv"), like=model)
    assert (~found.values.isnan()).all(2).tolist() == [[True, True, False, False, False]]


def test_series_without_times(tmp_path: pathlib.Path) -> None:
    """Rows are named as points with a note; asked for as series, they are steps in their order."""
    table, timed = long_table(), read(written(long_table(step=1.0), tmp_path, "timed.csv"))
    mixed = table.drop(columns="t").sort_values("y", ascending=False, kind="stable")  # rows of one id are apart
    path = written(mixed.assign(id=mixed["id"].str[1:]), tmp_path)
    plain = read(path)
    assert isinstance(plain.modality, Points)
    assert sum("column t" in note for note in plain.notes) == 1
    modality, values, _ = arrays_of(path, kind=RawArrays)
    torch.testing.assert_close(values, timed.values, equal_nan=True)
    assert (modality.columns, modality.start, modality.step) == (("x", "y"), 0, 1)
    assert not any("column t" in note for note in timed.notes)
    with refuses(InputError, file=str(tmp_path / "c.csv")) as caught:
        read(written(table.rename(columns={"t": "time"}), tmp_path, "c.csv"), kind=RawArrays)
    assert "time" in str(caught.value.remedy)
    for other in (table.drop(columns="t").drop_duplicates("id"), table.drop(columns=["t", "id"])):
        data = read(written(other, tmp_path, "d.csv"))
        assert not any("column t" in note for note in data.notes)


def series_text(header: str, times: tuple[str, ...] = ("0", "1", "2"), cells: str = "") -> str:
    rows = [f"{i},{t},{i + j * j}{cells}" for i in range(3) for j, t in enumerate(times)]
    return "\n".join([header, *rows])


def test_names_of_columns_in_upper_and_lower_case(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    for header, columns in (("id,t,T", ("T",)), ("id,t,ID", ("ID",)), ("ID,T,v", ("v",)), ("Id,t,v", ("v",))):
        path.write_text(series_text(header))
        modality, values, _ = arrays_of(path)
        assert modality.columns == columns
        assert values[1, :, 0].tolist() == [1, 2, 5]


def test_repeated_columns_and_extreme_times_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    for header, column in (("id,t,v,v", "v"), ("id,t,t,v", "t"), ("id,id,t,v", "id")):
        path.write_text(series_text(header, cells=",7"))
        with refuses(InputError, file=str(path), column=column):
            read(path)
    path.write_text("id,t,v\n")
    with refuses(InputError, file=str(path)):
        read(path, kind=RawArrays)
    path.write_text("y,c,c\n" + "\n".join(f"{i},{i * i},3" for i in range(30)))
    with refuses(InputError, column="c"):
        read(path, condition=["c"])
    for times in (("0", "1e-300", "2e-300", "5"), ("0", "1", "2", "1e308"), ("-1.7e308", "0", "1", "1.7e308")):
        path.write_text(series_text("id,t,v", times))
        with refuses(InputError, file=str(path), column="t"):
            read(path)


@pytest.mark.parametrize(
    ("columns", "refused"), [(("id", "x"), "id"), (("x", "t"), "t"), (("x", "Label"), "Label"), (("x", "x"), "x")]
)
def test_names_of_channels_that_tables_of_series_cannot_hold_are_refused(
    columns: tuple[str, str], refused: str
) -> None:
    with refuses(InputError, column=refused):
        array_dataset(RawArrays(normal(20, 5, 2), columns=columns))
    if refused != "x":
        assert array_dataset(RawArrays(normal(20, 5, 4, 2), columns=columns)).modality.columns == columns
