"""Arrays from files to models: fit, sample, evaluate and imputation of series."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from feller.app.cli import main

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
    assert main(["evaluate", run, "--data", str(folder / "series.csv")]) == 0
    text = "".join(capsys.readouterr())
    for name in ("autocorrelation_distance", "spectrum_distance", "discriminative_score", "predictive_score"):
        assert f"{name}_floor" in text


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


def test_arrays_of_every_number_of_axes(tmp_path: pathlib.Path) -> None:
    generator = np.random.default_rng(0)
    for shape, options in (((9,), ["--recipe", "arrays"]), ((5, 6, 2), []), ((3, 4, 4, 1), [])):
        file, run, out = tmp_path / "a.npy", tmp_path / f"run{len(shape)}", tmp_path / f"{len(shape)}.npy"
        np.save(file, generator.normal(size=(30, *shape)))
        assert main(["fit", str(file), *options, *SHORT, "--out", str(run)]) == 0
        assert main(["sample", str(run), "-n", "2", "--out", str(out)]) == 0
        assert np.load(out).shape == (2, *(shape if len(shape) > 1 else (9, 1)))
