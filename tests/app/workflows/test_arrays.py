"""Arrays from files to models: fit, sample, evaluate and imputation of series."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.app.cli import main
from feller.app.workflows.run_config import read_fit_record, train_test_split
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import open_run
from feller.data.loading.dataset_reader import read
from feller.evaluation.flow_metrics import FlowMetricOptions, flow_quality
from tests.errors import refuses

SHORT = ["--size", "tiny", "--steps", "3", "--sampling.nfe", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Ragged series of two channels with missing entries, labels and a condition, and a run of them."""
    folder = tmp_path_factory.mktemp("arrays")
    generator = np.random.default_rng(0)
    rows = []
    for i in range(60):
        amplitude, phase = generator.uniform(1, 2), generator.uniform(0, 6)
        for t in range(int(generator.integers(6, 10))):
            x = amplitude * np.sin(t / 2 + phase)
            y = "" if generator.random() < 0.1 else x + generator.normal()
            rows.append((f"s{i}", t / 2, x, y, "ab"[i % 2], amplitude))
    table = pd.DataFrame(rows, columns=["id", "t", "x", "y", "label", "amp"])
    table.to_csv(folder / "series.csv", index=False)
    table[(table["t"] < 2) & (table["t"] != 0.5) & table["id"].isin(["s0", "s1"])].to_csv(
        folder / "part.csv", index=False
    )
    assert main(["fit", str(folder / "series.csv"), "--condition", "amp", *SHORT, "--out", str(folder / "run")]) == 0
    return folder


def test_samples_of_series(folder: pathlib.Path) -> None:
    run = str(folder / "run")
    given = ["--given", "label=a", "amp=1.5", "steps=7"]
    assert main(["sample", run, "-n", "3", *given, "--out", str(folder / "new.csv")]) == 0
    frame = pd.read_csv(folder / "new.csv")
    assert list(frame.columns) == ["id", "t", "x", "y", "label", "amp"]
    assert frame.groupby("id")["t"].apply(list).tolist() == [[k / 2 for k in range(7)]] * 3
    assert frame["label"].eq("a").all()
    assert frame["amp"].eq(1.5).all()
    assert frame[["x", "y"]].notna().all().all()


def test_samples_do_not_depend_on_their_number(folder: pathlib.Path) -> None:
    for n in (2, 5):
        assert main(["sample", str(folder / "run"), "-n", str(n), "--out", str(folder / f"{n}.npz")]) == 0
    two, five = (np.load(folder / f"{n}.npz")["samples"] for n in (2, 5))
    np.testing.assert_allclose(two, five[:2], rtol=1e-4, atol=1e-5)


def test_evaluation_of_series(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(folder / "run")
    assert main(["evaluate", run, "--data", str(folder / "series.csv"), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name in ("autocorrelation_distance", "spectrum_distance", "discriminative_score", "predictive_score"):
        assert metrics[f"{name}_floor"] is not None


def test_series_are_completed(folder: pathlib.Path) -> None:
    """Missing steps are filled in, and series are continued to the longest length; other entries stay."""
    part = pd.read_csv(folder / "part.csv")
    assert (
        main(["sample", str(folder / "run"), "--complete", str(folder / "part.csv"), "--out", str(folder / "full.csv")])
        == 0
    )
    full = pd.read_csv(folder / "full.csv")
    assert full.groupby("id").size().tolist() == [9, 9]
    assert full[["x", "y"]].notna().all().all()
    merged = part.assign(id=part["id"].map({"s0": 0, "s1": 1})).merge(full, on=["id", "t"], suffixes=("", "_full"))
    assert len(merged) == len(part)
    for name in ("x", "y"):
        present = merged[name].notna()
        np.testing.assert_allclose(merged[name][present], merged[f"{name}_full"][present], rtol=1e-5)


def test_completed_rows_stay_at_their_times(folder: pathlib.Path) -> None:
    """The rows of a series that begins after the model's start are not moved to the start."""
    part = pd.read_csv(folder / "series.csv").query("id in ['s0', 's1'] and 1 <= t <= 2").dropna()
    part[(part["id"] == "s0") | (part["t"] > 1)].to_csv(folder / "middle.csv", index=False)
    out = folder / "middle_full.csv"
    assert main(["sample", str(folder / "run"), "--complete", str(folder / "middle.csv"), "--out", str(out)]) == 0
    given = pd.read_csv(folder / "middle.csv")
    merged = given.assign(id=given["id"].map({"s0": 0, "s1": 1})).merge(
        pd.read_csv(out), on=["id", "t"], suffixes=("", "_full")
    )
    assert len(merged) == len(given) > 3
    np.testing.assert_allclose(merged[["x", "y"]], merged[["x_full", "y_full"]], rtol=1e-5)


def test_arrays_of_every_number_of_axes(tmp_path: pathlib.Path) -> None:
    generator = np.random.default_rng(0)
    for shape, options in (((9,), ["--recipe", "arrays"]), ((5, 6, 2), []), ((3, 4, 4, 1), [])):
        file, run, out = tmp_path / "a.npy", tmp_path / f"run{len(shape)}", tmp_path / f"{len(shape)}.npy"
        np.save(file, generator.normal(size=(30, *shape)))
        assert main(["fit", str(file), *options, *SHORT, "--out", str(run)]) == 0
        assert main(["sample", str(run), "-n", "2", "--out", str(out)]) == 0
        assert np.load(out).shape == (2, *(shape if len(shape) > 1 else (9, 1)))


def test_log_prob_of_incomplete_arrays_is_refused(tmp_path: pathlib.Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 8, 1))
    run = feller.fit(x, recipe="arrays", size="tiny", steps=3, out=str(tmp_path / "run"), report=False)
    assert run.log_prob(x[:2]).shape == (2,)
    holes = x[:3].copy()
    holes[1, 4] = np.nan
    for incomplete, row in ((holes, 2), (x[:3, :5], 1)):
        with refuses(InputError, row=row):
            run.log_prob(incomplete)
    model = run.model
    found = flow_quality(model, read(holes, like=model.spec.modality), FlowMetricOptions(rng=Rng(0), fraction=0.01))
    assert found["nll"] is None


def test_sets_of_the_ucr_archive_keep_their_test_file_apart(tmp_path: pathlib.Path) -> None:
    """A transformer is fitted to NAME_TRAIN.ts, held out is NAME_TEST.ts, and entries of the latter are kept."""
    values = np.random.default_rng(0).normal(size=(30, 9)).round(3)
    for part, rows in (("TRAIN", values[:24]), ("TEST", values[24:])):
        lines = [f"{','.join(map(str, row[: 9 - i % 2]))}:{i % 2}" for i, row in enumerate(rows)]
        header = ["@problemName a", "@classLabel true 0 1", "@data"]
        (tmp_path / f"a_{part}.ts").write_text("\n".join([*header, *lines]))
    run = tmp_path / "run"
    assert main(["fit", str(tmp_path), "--recipe", "arrays-transformer", *SHORT, "--out", str(run)]) == 0
    record = read_fit_record(open_run(str(run)))
    train, test = train_test_split(record, read(str(tmp_path)))
    assert torch.equal(
        train.values.nan_to_num(), torch.from_numpy(values[:24, :, None]).float().where(~train.values.isnan(), 0)
    )
    assert len(test) == 6
    partial, out = str(tmp_path / "a_TEST.ts"), tmp_path / "full.npy"
    assert main(["sample", str(run), "--complete", partial, "--out", str(out)]) == 0
    full = np.load(out)[..., 0]
    assert np.isfinite(full).all()
    np.testing.assert_allclose(full[:, :8], values[24:, :8], rtol=1e-5)
