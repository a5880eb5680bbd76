"""Files of arrays from other libraries: Zarr stores, Parquet with lists, and sets of the UCR archive."""

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from feller.core.errors import InputError
from feller.data.arrays.modality import Arrays
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawArrays
from feller.data.modality import Dataset
from tests.errors import refuses

X = np.random.default_rng(0).normal(size=(12, 6, 2))


def series_of(source: object, **options: object) -> Dataset:
    data = read(source, **options)  # type: ignore[arg-type]
    assert isinstance(data.modality, Arrays)
    return data


def test_columns_of_lists_are_channels(tmp_path: pathlib.Path) -> None:
    frame = pd.DataFrame({"a": list(X[..., 0]), "b": list(X[..., 1]), "label": ["u", "v"] * 6, "amp": np.arange(12.0)})
    frame.to_parquet(tmp_path / "a.parquet")
    data = series_of(tmp_path / "a.parquet", condition=["amp"])
    assert torch.equal(data.values, torch.from_numpy(X).float())
    assert data.modality.columns == ("a", "b")
    assert data.given["label"].tolist() == [0, 1] * 6
    assert data.given["amp"].tolist() == frame["amp"].tolist()
    with refuses(InputError, file=str(tmp_path / "a.parquet")):
        series_of(tmp_path / "a.parquet", condition=["a", "b"])


def test_nested_and_ragged_lists(tmp_path: pathlib.Path) -> None:
    ragged = [x[: 6 - i % 2].tolist() for i, x in enumerate(X)]
    ragged[3][2][1] = None
    pd.DataFrame({"x": ragged}).to_parquet(tmp_path / "a.parquet")
    data = series_of(tmp_path / "a.parquet")
    assert data.modality.lengths == ("5", "6")
    assert data.values.isnan().nonzero().tolist() == [
        [1, 5, 0], [1, 5, 1], [3, 2, 1], [3, 5, 0], [3, 5, 1], *([i, 5, c] for i in (5, 7, 9, 11) for c in (0, 1))
    ]  # fmt: skip
    np.testing.assert_array_equal(data.values[2], X[2].astype(np.float32))
    for cells, row in (([[[1.0], [2.0, 3.0]], [[1.0], [2.0]]], 1), ([[[1.0]], [[1.0, 2.0]]], 2), ([[[1.0]], None], 2)):
        pd.DataFrame({"x": cells}).to_parquet(tmp_path / "b.parquet")
        with refuses(InputError, file=str(tmp_path / "b.parquet"), row=row, column="x"):
            read(tmp_path / "b.parquet")


def labelled_set(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Write one set of two channels in .ts and .arff, and its first channel in .tsv; return the values of each part."""
    parts = {"TRAIN": X[:8].round(3), "TEST": X[8:].round(3)}
    for part, values in parts.items():
        rows = [(channels.T.tolist(), i % 2 + 1) for i, channels in enumerate(values)]
        (folder / f"Waves_{part}.tsv").write_text(
            "".join("\t".join(map(str, [label, *channels[0]])) + "\n" for channels, label in rows)
        )
        ts = [":".join([*(",".join(map(str, c)) for c in channels), str(label)]) for channels, label in rows]
        header = ["# a comment", "@problemName Waves", "@timeStamps false", "@classLabel true 1 2", "@data"]
        (folder / f"Waves_{part}.ts").write_text("\n".join([*header, *ts]))
        arff = ["'" + "\\n".join(",".join(map(str, c)) for c in channels) + f"',{label}" for channels, label in rows]
        (folder / f"Waves_{part}.arff").write_text("\n".join(["% text", "@relation waves", "@data", *arff]))
    return parts


def test_sets_of_the_ucr_archive(tmp_path: pathlib.Path) -> None:
    parts = labelled_set(tmp_path)
    for ending, channels in (("tsv", 1), ("ts", 2), ("arff", 2)):
        for part, values in parts.items():
            data = series_of(tmp_path / f"Waves_{part}.{ending}")
            np.testing.assert_array_equal(data.values, values[..., :channels].astype(np.float32))
            assert data.modality.classes == ("1", "2")
            assert data.given["label"].tolist() == [i % 2 for i in range(len(values))]
    folder = series_of(tmp_path)  # .tsv goes first
    np.testing.assert_array_equal(folder.values, parts["TRAIN"][..., :1].astype(np.float32))


def test_missing_entries_and_unequal_lengths_of_ts(tmp_path: pathlib.Path) -> None:
    header = "@problemName a\n@univariate true\n@classLabel true x y\n@data\n"
    (tmp_path / "a.ts").write_text(header + "1,2,?,4:x\n5,6,7:y\n2,NaN,1,1:y\n")
    data = series_of(tmp_path / "a.ts")
    assert data.modality.lengths == ("3", "4")
    assert data.values[..., 0].nan_to_num(-1).tolist() == [[1, 2, -1, 4], [5, 6, 7, -1], [2, -1, 1, 1]]
    for text, row in (("1,2,q:x\n", 5), ("1,2:1,2:x\n1,2:y\n", 6), ("1,inf:x\n", 5)):
        (tmp_path / "a.ts").write_text(header + text)
        with refuses(InputError, file=str(tmp_path / "a.ts"), row=row):
            read(tmp_path / "a.ts")
    (tmp_path / "a.ts").write_text("@problemName a\n@timeStamps true\n@data\n(1,2):x\n")
    with refuses(InputError, row=2):
        read(tmp_path / "a.ts")


def test_several_sets_in_a_folder_are_refused(tmp_path: pathlib.Path) -> None:
    labelled_set(tmp_path)
    shutil.copy(tmp_path / "Waves_TRAIN.ts", tmp_path / "Other_TRAIN.ts")
    with refuses(InputError, file=str(tmp_path)):
        read(tmp_path)


def test_tables_with_names_of_parts_stay_tables(tmp_path: pathlib.Path) -> None:
    pd.DataFrame({"a": X[:, 0, 0], "b": X[:, 0, 1]}).to_csv(tmp_path / "a_train.tsv", sep="\t", index=False)
    assert not isinstance(read(tmp_path / "a_train.tsv").modality, Arrays)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path: pathlib.Path, version: int) -> None:
    zarr = pytest.importorskip("zarr")
    store = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    store.create_array("samples", data=X, chunks=(5, 6, 2))
    store.create_array("labels", data=np.arange(12) % 3, config={"write_empty_chunks": True})
    data = series_of(tmp_path / "a.zarr")
    assert torch.equal(data.values, torch.from_numpy(X).float())
    assert data.given["label"].tolist() == [0, 1, 2] * 4
    alone = zarr.create_array(
        str(tmp_path / "b.zarr"), data=X, chunks=(4, 6, 2), fill_value=np.nan, zarr_format=version
    )
    assert alone.nchunks == 3
    assert torch.equal(series_of(tmp_path / "b.zarr").values, data.values)


def test_missing_chunks(tmp_path: pathlib.Path) -> None:
    """A chunk without a file is refused, except where the fill value is NaN, which marks missing entries."""
    zarr = pytest.importorskip("zarr")
    for fill in (0.0, np.nan):
        folder = tmp_path / f"{fill}.zarr"
        zarr.create_array(str(folder), data=X, chunks=(12, 3, 2), fill_value=fill)
        assert not read(str(folder)).values.isnan().any()
        (folder / "c" / "0" / "1" / "0").unlink()
    with refuses(InputError, file=str(tmp_path / "0.0.zarr")):
        read(str(tmp_path / "0.0.zarr"))
    assert read(str(tmp_path / "nan.zarr"), kind=RawArrays).values.shape == (12, 3, 2)


def test_stores_of_strangers(tmp_path: pathlib.Path) -> None:
    """Codecs that are not on the list are refused before anything is decoded, and so are links that lead outside."""
    zarr = pytest.importorskip("zarr")
    zarr.create_array(str(tmp_path / "a.zarr"), data=X, zarr_format=2)
    file = tmp_path / "a.zarr" / ".zarray"
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps({**metadata, "filters": [{"id": "pickle", "protocol": 4}]}))
    with refuses(InputError, file=str(tmp_path / "a.zarr")):
        read(str(tmp_path / "a.zarr"))
    file.write_text(json.dumps(metadata))
    (tmp_path / "a.zarr" / "9.9.9").symlink_to(tmp_path)
    with refuses(InputError, file=str(tmp_path / "a.zarr")):
        read(str(tmp_path / "a.zarr"))
