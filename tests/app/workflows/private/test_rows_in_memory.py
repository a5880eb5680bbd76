"""Private fits of data frames: the same as of a file, without a copy of the rows."""

import json
import os
import pathlib
import pickle
import shutil
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted

import feller
from feller.app.workflows.next_steps import fit_command
from feller.app.workflows.run_config import read_fit_record, read_train_config
from feller.core.errors import InputError, UsageError
from feller.evaluation.report.grades import GOOD, POOR
from feller.evaluation.report.verdict import judge_numbers
from feller.evaluation.tables.table_quality import table_quality
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here")

TINY = {"epsilon": 4.0, "steps": 3, "size": "tiny", "unsafe_seed": 0, "report": False}


def people(n, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(16, 80, n),
            "school": rng.choice(["first", "second", "third"], n),
            "income": rng.choice(["low", "high"], n),
            "pay": rng.integers(0, 500, n) * 100 + 7,
        }
    )


@pytest.fixture(scope="module")
def rows():
    return people(400, 0)


@pytest.fixture
def run(here, rows):
    return feller.fit(rows, out="run", **TINY)


def test_frame_gives_the_ledger_and_the_samples_of_its_file(run, rows):
    rows.to_csv("people.csv", index=False)
    file = feller.fit("people.csv", out="file", **TINY)
    one, other = (json.loads(pathlib.Path(out, "ledger.json").read_text()) for out in ("run", "file"))
    assert one == other
    drawn = run.sample(50)
    assert drawn.equals(file.sample(50))
    assert list(drawn.columns) == list(rows.columns)
    assert [str(kind) for kind in drawn.dtypes] == [str(kind) for kind in rows.dtypes]


def test_pickled_synthesizer_without_its_temporary_folder(here):
    made = feller.Synthesizer(steps=3, size="tiny").fit(people(60, 0))
    again = pickle.loads(pickle.dumps(made))
    assert len(again.sample(3)) == 3
    shutil.rmtree(made.run_.path)
    for ask in (lambda: again.sample(3), lambda: feller.evaluate(again)):
        with refuses(InputError, argument="run_") as caught:
            ask()
        assert "out=" in caught.value.remedy


@pytest.mark.parametrize("change", ["gone", "empty", "steps", "rows"])
def test_run_without_its_ledger_is_refused(run, rows, change):
    assert run.epsilon > 0
    file, content = run.folder.ledger, json.loads(run.folder.ledger.read_text())
    if change == "empty":
        content["events"] = []
    elif change == "steps":
        for one in content["events"]:
            one |= {"steps": 1} if one["is"] == "PoissonSubsampledGaussian" else {}
    else:
        content["n"] += 1
    file.unlink() if change == "gone" else file.write_text(json.dumps(content))
    for ask in (
        lambda: run.epsilon,
        lambda: feller.evaluate(run, data=rows, n=50),
        lambda: feller.audit(run, data=rows),
        lambda: feller.fit(rows, out="run", resume=True, steps=4),
    ):
        with refuses(InputError, file=str(file)):
            ask()


def test_rows_are_not_stored_and_given_again(here, run, rows):
    assert not list(here.rglob("data.*"))
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.suffix in (".json", ".jsonl"))
    assert ",".join(map(str, rows.iloc[0])).encode() not in written
    for ask in (lambda: feller.evaluate(run), lambda: feller.fit(resume=True, out="run", report=False)):
        with refuses(InputError) as caught:
            ask()
        assert "data=..." in caught.value.remedy
    report = feller.evaluate(run, data=rows, n=100)
    assert report.path == pathlib.Path("run/report.html")
    assert report.metrics["n"] == 100
    assert len(report.figures()) >= 3
    assert "<iframe sandbox" in report._repr_html_()
    assert feller.audit(run, data=rows).metrics["epsilon"] <= 4
    with refuses(InputError, remedy="Use all rows of the fit, in the same order"):
        feller.audit(run, data=people(400, 1))
    assert feller.fit(rows, resume=True, out="run", report=False).path == run.path
    with refuses(InputError, remedy="Restore the data"):
        feller.fit(people(400, 1), resume=True, out="run", report=False)


def test_private_images_in_memory(here):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    run = feller.fit({"samples": pixels, "labels": ["a", "b"] * 100}, out="run", **TINY)
    assert not list(here.rglob("data.*"))
    assert run.sample(2, nfe=2).numpy().shape == (2, 8, 8)
    with refuses(InputError, file="your array [200, 8, 8]"):
        feller.fit(pixels.astype(np.int32), out="whole-numbers", **TINY)


def test_estimators_follow_scikit_learn(here, rows):
    synth = feller.Synthesizer(epsilon=4.0, steps=3, size="tiny", unsafe_seed=0)
    twin = clone(synth)
    assert twin.get_params() == synth.get_params()
    with pytest.raises(NotFittedError):
        check_is_fitted(twin)
    for call in (twin.sample, lambda: feller.audit(twin), lambda: twin.score(people(3, 0))):
        with pytest.raises(NotFittedError) as caught:
            call()
        assert isinstance(caught.value, feller.UsageError)
    for call in (lambda: twin.set_params(epsilom=3), lambda: feller.Synthesizer(epsilom=3)):
        with refuses(feller.UsageError, argument="epsilom", remedy="Did you mean 'epsilon'?"):
            call()
    twin.set_params(seed=1).fit(rows[["age", "school"]], rows["income"])
    check_is_fitted(twin)
    drawn = twin.sample(20, given={"income": "low"})
    assert list(drawn.columns) == ["age", "school", "income"]
    assert set(drawn["income"]) == {"low"}
    assert (twin.n_features_in_, len(twin.sample())) == (2, 64)
    assert twin.run_.epsilon == pytest.approx(twin.run_.ledger.epsilon())
    assert 0 < twin.run_.epsilon <= 4
    whole = rows[["age", "school", "income"]]
    assert twin.score(whole[["age", "school"]], whole["income"]) == pytest.approx(twin.log_prob(whole).mean())
    assert len(feller.sample(twin, n=3)) == 3
    audited = feller.audit(twin, data=whole, report=False)
    assert audited.metrics["epsilon"] <= 4
    assert audited.path is None
    with refuses(InputError):
        feller.audit(twin, data=whole[::-1])
    before = twin.run_
    twin.set_params(out="again", overwrite=True).fit(whole).fit(whole)
    assert len(before.sample(3)) == 3
    assert twin.run_.path == pathlib.Path("again")


def test_grid_search_scores_by_the_log_probability(here):
    synth = feller.Synthesizer(recipe="table-marginals")
    search = GridSearchCV(synth, {"seed": [0, 1]}, cv=2, error_score="raise").fit(people(300, 0))
    assert search.best_score_ < 0


def test_refused_recipe_spends_nothing(here, rows):
    with refuses(feller.UsageError, argument="recipe"):
        feller.fit(rows, recipe="logistic-private", target="income", epsilon=1.0, out="run")
    assert not pathlib.Path("run").exists()


TRAINING_METRICS = ("copies", "dcr_share", "membership_auc", "nll_baseline")


def test_evaluation_with_other_rows(here, rows):
    """Metrics of the training rows are left out unless they are given."""
    test = people(120, 1)
    run = feller.fit(rows, out="run", epsilon=4.0, recipe="table-marginals", unsafe_seed=0, report="full")
    own = run.report.metrics
    with pytest.warns(UserWarning, match="train=rows"):
        others = feller.evaluate(run, data=test)
    found = others.metrics
    assert others.path == pathlib.Path("run/report-memory.html")
    assert (found["rows_given"], found["compared_with"]) == (120, "memory")
    assert not [name for name in found if name.startswith(TRAINING_METRICS) or "_test" in name]
    assert {f"tv2_half{end}" for end in ("", "_floor", "_independent")} <= own.keys() & found.keys()
    assert found["r2_boosted_real"] is not None
    few = feller.evaluate(run, data=test[:20])
    assert few.metrics["tv2_floor"] is None
    assert few.verdict.startswith("TV distance")  # and no grade
    both = feller.evaluate(run, data=test, train=rows).metrics
    assert TRAINING_METRICS[0] in both
    assert both["tv2_half"] == pytest.approx(own["tv2_half"], abs=0.1)
    assert "rows_given" not in both
    for given, kind, fields in (
        ({"data": test, "train": test}, InputError, {"argument": None, "remedy": "Restore the data"}),
        ({"train": rows}, UsageError, {"argument": "train", "found": "none"}),
        ({"data": test.assign(age="x")}, InputError, {"column": "age", "row": 1, "found": "'x'"}),
        ({"data": test.drop(columns="age")}, InputError, {"column": "age", "remedy": "Add the column"}),
    ):
        with refuses(kind, **fields):
            feller.evaluate(run, **given)


def test_grade_of_exact_and_independent_columns():
    rng = np.random.default_rng(0)

    def rows(n, *, unrelated=False):
        x = rng.integers(0, 4, n)
        y = rng.integers(0, 4, n) if unrelated else (x + (rng.random(n) < 0.1)) % 4
        return torch.from_numpy(np.stack([x, y], 1))

    for n, learned in ((300, True), (120, False)):
        for unrelated, grade in ((False, GOOD), (True, POOR)):
            generated = rows(300, unrelated=unrelated)
            numbers = table_quality(generated, rows(n), rows(0), (4, 4), has_train=learned)
            assert judge_numbers(numbers).grade == grade


def test_order_of_rows_does_not_matter(run, rows):
    shuffled = rows.sample(frac=1, random_state=1).reset_index(drop=True)
    one, other = (feller.evaluate(run, data=data, n=100) for data in (rows, shuffled))
    assert one.verdict.partition(":")[0] == other.verdict.partition(":")[0]
    assert one.metrics["nll_baseline"] == pytest.approx(other.metrics["nll_baseline"])
    assert one.metrics["compared_with"] == other.metrics["compared_with"]
    with pytest.warns(UserWarning, match="copies and membership"):
        assert "nll_baseline" not in feller.evaluate(run, data=rows[:-1], n=100).metrics
    fine = feller.fit(rows, out="fine", schema=feller.infer_schema(rows), **TINY)  # rows differ in fine bins
    with pytest.warns(UserWarning, match="of the 120 examples"):
        feller.evaluate(fine, data=pd.concat([rows[:100], people(120, 1)[:20]]), train=rows, n=100)


def test_training_rows_among_other_rows_are_counted(here):
    draw = np.random.default_rng(0)
    rows, others = (pd.DataFrame(draw.normal(size=(n, 2)), columns=["x", "y"]) for n in (300, 80))
    run = feller.fit(rows, out="run", steps=3, size="tiny", report=False)
    with pytest.warns(UserWarning, match=r"(2|3)\d of the 110 examples"):
        feller.evaluate(run, data=pd.concat([others, rows[:30]]), n=50)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* examples are also")
        feller.evaluate(run, data=others, n=50)


@pytest.mark.parametrize("moment", ["restore_state", "record_job", "_train"])
def test_killed_overwrite_keeps_ledgers(run, rows, monkeypatch, moment):
    first = json.loads(run.folder.ledger.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(f"feller.app.workflows.fit.{moment}", lambda *args, **more: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            feller.fit(rows, out="run", overwrite=True, **TINY)
    (run.path / ".ledger.json.abc").write_text("{")  # a partial write
    feller.fit(rows, out="run", overwrite=True, **TINY)
    spent = [json.loads(path.read_text()) for path in sorted(run.path.glob("spent/*/ledger.json"))]
    assert spent[0] == first
    assert len(spent) == 2  # at least the schema search
    assert {one["label"] for one in spent[1]["events"]} <= {one["label"] for one in first["events"]}
    assert not (run.path / ".ledger.json.abc").exists()


def test_folder_of_others_is_kept(here):
    (here / "mine").mkdir()
    (here / "mine" / "report.html").write_text("mine")
    with refuses(UsageError, file="mine"):
        feller.fit(people(60, 0), out="mine", overwrite=True, steps=1, size="tiny", report=False)
    assert (here / "mine" / "report.html").read_text() == "mine"


def test_recorded_call_makes_the_run_again(here, rows):
    run = feller.fit(rows, out="run", fields={"train.batch_size": 64}, **TINY)
    call = fit_command(run.folder, read_fit_record(run.folder), read_train_config(run.folder))
    again = eval(call.replace("'run'", "'again'"), {"feller": feller, "rows": rows})
    assert again.sample(20).equals(run.sample(20))
    assert str(again.path) == "again"
