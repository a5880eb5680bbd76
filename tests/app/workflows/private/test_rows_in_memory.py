"""Private fits of data frames: the ledger and the samples of the file, and no copy of a row in the run."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

import feller
from feller.core.errors import InputError
from tests.errors import refuses

TINY = {"epsilon": 4.0, "steps": 3, "size": "tiny", "unsafe_seed": 0, "report": False}


def people(n: int, seed: int) -> pd.DataFrame:
    """Return a table in which one word marks each person."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(16, 80, n),
            "school": rng.choice(["first", "second", "third"], n),
            "income": rng.choice(["low", "high"], n),
            "pay": rng.integers(0, 500, n) * 100 + 7,
        }
    )


@pytest.fixture(autouse=True)
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_frame_gives_the_ledger_and_the_samples_of_its_file(here: pathlib.Path) -> None:
    rows = people(400, 0)
    rows.to_csv("people.csv", index=False)
    frame, file = feller.fit(rows, out="frame", **TINY), feller.fit("people.csv", out="file", **TINY)
    ledgers = [json.loads(pathlib.Path(out, "ledger.json").read_text()) for out in ("frame", "file")]
    assert ledgers[0] == ledgers[1]
    drawn = frame.sample(50)
    assert drawn.equals(file.sample(50))
    assert list(drawn.columns) == list(rows.columns)
    assert [str(kind) for kind in drawn.dtypes] == [str(kind) for kind in rows.dtypes]


def test_the_run_keeps_no_row_and_takes_them_again(here: pathlib.Path) -> None:
    rows = people(400, 0)
    run = feller.fit(rows, out="run", **TINY)
    assert not list(here.rglob("data.*"))
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.suffix in (".json", ".jsonl"))
    first = ",".join(map(str, rows.iloc[0])).encode()
    assert first not in written
    with pytest.raises(InputError, match="in memory"):
        feller.evaluate(run)
    report = feller.evaluate(run, data=rows, n=100)
    assert report.path == pathlib.Path("run/report.html")
    assert report.metrics["n"] == 100
    assert len(report.figures()) >= 3
    assert "<iframe sandbox" in report._repr_html_()
    others = feller.evaluate(run, data=people(200, 1), n=100)
    assert others.path is not None
    assert others.path.name != "report.html"
    assert feller.audit(run, data=rows).metrics["epsilon"] <= 4
    with pytest.raises(InputError, match="fingerprint"):
        feller.audit(run, data=people(400, 1))


def test_a_run_of_rows_in_memory_goes_on_with_them(here: pathlib.Path) -> None:
    rows = people(400, 0)
    whole = feller.fit(rows, out="whole", **TINY)
    with pytest.raises(InputError, match="in memory"):
        feller.fit(resume=True, out="whole", report=False)
    again = feller.fit(rows, resume=True, out="whole", report=False)
    assert again.path == whole.path
    with pytest.raises(InputError, match="is not what it was"):
        feller.fit(people(400, 1), resume=True, out="whole", report=False)


def test_private_pictures_in_memory(here: pathlib.Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    run = feller.fit({"samples": pixels, "labels": ["a", "b"] * 100}, out="run", **TINY)
    assert not list(here.rglob("data.*"))
    assert run.sample(2, calls=2).numpy().shape == (2, 8, 8)
    with pytest.raises(InputError, match="white"):
        feller.fit(pixels.astype(np.int32), out="whole-numbers", **TINY)


def test_estimators_follow_scikit_learn(here: pathlib.Path) -> None:
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    synth = feller.Synthesizer(epsilon=4.0, steps=3, size="tiny", unsafe_seed=0)
    twin = clone(synth)
    assert twin.get_params() == synth.get_params()
    with pytest.raises(NotFittedError):
        check_is_fitted(twin)
    with pytest.raises(feller.UsageError):
        twin.sample(3)
    with refuses(feller.UsageError, argument="argument", found="'epsilom'"):
        twin.set_params(epsilom=3)
    rows = people(400, 0)
    twin.set_params(seed=1).fit(rows[["age", "school"]], rows["income"])
    check_is_fitted(twin)
    drawn = twin.sample(20, given={"income": "low"})
    assert list(drawn.columns) == ["age", "school", "income"]
    assert set(drawn["income"]) == {"low"}
    assert twin.n_features_in_ == 2
