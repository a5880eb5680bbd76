"""Private fits of data frames: the ledger and the samples of the file, and no copy of a row in the run."""

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

import feller
from feller.app.workflows.next_steps import fit_command
from feller.app.workflows.run_config import read_fit_record, read_train_config
from feller.core.errors import InputError, UsageError
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here")

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


def test_a_pickled_synthesizer_without_its_folder_says_that_it_was_temporary(here: pathlib.Path) -> None:
    made = feller.Synthesizer(steps=3, size="tiny").fit(people(60, 0))
    again = pickle.loads(pickle.dumps(made))
    assert len(again.sample(3)) == 3
    shutil.rmtree(made.run_.path)
    for ask in (lambda: again.sample(3), lambda: feller.evaluate(again)):
        with pytest.raises(InputError) as error:
            ask()
        assert (error.value.argument, "out=" in str(error.value.remedy)) == ("run_", True)


@pytest.mark.parametrize("change", ["gone", "empty", "steps", "rows"])
def test_a_private_run_without_its_ledger_is_refused_everywhere(here: pathlib.Path, change: str) -> None:
    rows = people(400, 0)
    run = feller.fit(rows, out="run", **TINY)
    assert run.epsilon is not None
    assert run.epsilon > 0
    file, content = run.folder.ledger, json.loads(run.folder.ledger.read_text())
    if change == "empty":
        content["events"] = []
    elif change == "steps":
        content["events"] = [
            one | ({"steps": 1} if one["is"] == "PoissonSubsampledGaussian" else {}) for one in content["events"]
        ]
    else:
        content["n"] += 1
    file.unlink() if change == "gone" else file.write_text(json.dumps(content))
    for ask in (
        lambda: run.epsilon,
        lambda: feller.evaluate(run, data=rows, n=50),
        lambda: feller.audit(run, data=rows),
        lambda: feller.fit(rows, out="run", resume=True, steps=4),
    ):
        with pytest.raises(InputError) as error:
            ask()
        assert error.value.file == str(file)


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
    with pytest.raises(InputError, match="has changed"):
        feller.fit(people(400, 1), resume=True, out="whole", report=False)


def test_private_pictures_in_memory(here: pathlib.Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    run = feller.fit({"samples": pixels, "labels": ["a", "b"] * 100}, out="run", **TINY)
    assert not list(here.rglob("data.*"))
    assert run.sample(2, nfe=2).numpy().shape == (2, 8, 8)
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
    for call in (twin.sample, lambda: feller.audit(twin), lambda: twin.score(people(3, 0))):
        with pytest.raises(NotFittedError) as caught:
            call()
        assert isinstance(caught.value, feller.UsageError)
    for call in (lambda: twin.set_params(epsilom=3), lambda: feller.Synthesizer(epsilom=3)):
        with refuses(feller.UsageError, argument="epsilom", remedy="Did you mean 'epsilon'?"):
            call()
    rows = people(400, 0)
    twin.set_params(seed=1).fit(rows[["age", "school"]], rows["income"])
    check_is_fitted(twin)
    drawn = twin.sample(20, given={"income": "low"})
    assert list(drawn.columns) == ["age", "school", "income"]
    assert set(drawn["income"]) == {"low"}
    assert twin.n_features_in_ == 2
    assert len(twin.sample()) == 64
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


def test_a_search_scores_by_the_log_probability(here: pathlib.Path) -> None:
    from sklearn.model_selection import GridSearchCV

    synth = feller.Synthesizer(recipe="table-marginals")
    search = GridSearchCV(synth, {"seed": [0, 1]}, cv=2, error_score="raise").fit(people(300, 0))
    assert search.best_score_ < 0


def test_a_classifier_of_private_rows_in_memory_is_refused_before_anything_is_spent(here: pathlib.Path) -> None:
    with refuses(feller.UsageError, argument="recipe"):
        feller.fit(people(400, 0), recipe="logistic-private", target="income", epsilon=1.0, out="run")
    assert not pathlib.Path("run").exists()


OF_THE_FIT = ("copies", "dcr_share", "membership_auc", "nll_baseline")


def test_other_rows_are_compared_with_and_nothing_is_said_of_those_of_the_fit(here: pathlib.Path) -> None:
    rows, test = people(400, 0), people(120, 1)
    run = feller.fit(rows, out="run", epsilon=4.0, recipe="table-marginals", unsafe_seed=0, report="full")
    own = run.report.metrics
    with pytest.warns(UserWarning, match="train=rows"):
        others = feller.evaluate(run, data=test)
    found = others.metrics
    assert others.path == pathlib.Path("run/report-memory.html")
    assert found["rows_given"] == 120
    assert found["compared_with"] == "memory"
    assert not [name for name in found if name.startswith(OF_THE_FIT) or "_test" in name]
    decide = {f"tv2_half{end}" for end in ("", "_floor", "_independent")}
    assert decide <= own.keys() & found.keys()
    assert "copies of training rows" not in others.path.read_text()
    assert found["r2_boosted_real"] is not None
    few = feller.evaluate(run, data=test[:20])
    assert few.metrics["tv2_floor"] is None
    assert few.verdict.startswith("TV distance")  # and no class
    both = feller.evaluate(run, data=test, train=rows).metrics
    assert OF_THE_FIT[0] in both
    assert both["tv2_half"] == pytest.approx(own["tv2_half"], abs=0.1)
    assert "rows_given" not in both
    with refuses(InputError, argument=None, remedy="Restore the data"):
        feller.evaluate(run, data=test, train=test)
    with refuses(feller.UsageError, argument="train", found="none"):
        feller.evaluate(run, train=rows)
    with refuses(InputError, column="age", row=1, found="'x'"):
        feller.evaluate(run, data=test.assign(age="x"))
    with refuses(InputError, column="age", remedy="Add the column"):
        feller.evaluate(run, data=test.drop(columns="age"))


def test_a_perfect_table_is_good_beside_few_rows() -> None:
    from feller.evaluation.report.verdict import GOOD, POOR, judge_numbers
    from feller.evaluation.tables.table_quality import table_quality

    rng = np.random.default_rng(0)

    def rows(n: int, *, unrelated: bool = False) -> torch.Tensor:
        x = rng.integers(0, 4, n)
        y = rng.integers(0, 4, n) if unrelated else (x + (rng.random(n) < 0.1)) % 4
        return torch.from_numpy(np.stack([x, y], 1))

    for n, learned in ((300, True), (120, False)):
        numbers = table_quality(rows(300), rows(n), rows(0), (4, 4), has_train=learned)
        assert judge_numbers(numbers).grade == GOOD
        numbers = table_quality(rows(300, unrelated=True), rows(n), rows(0), (4, 4), has_train=learned)
        assert judge_numbers(numbers).grade == POOR


def test_the_order_of_rows_changes_nothing_and_rows_of_the_fit_are_counted(here: pathlib.Path) -> None:
    rows, others = people(400, 0), people(120, 1)
    run = feller.fit(rows, out="run", **TINY)
    shuffled = rows.sample(frac=1, random_state=1).reset_index(drop=True)
    one, other = (feller.evaluate(run, data=data, n=100) for data in (rows, shuffled))
    assert one.verdict.partition(":")[0] == other.verdict.partition(":")[0]
    assert one.metrics["nll_baseline"] == pytest.approx(other.metrics["nll_baseline"])
    assert one.metrics["compared_with"] == other.metrics["compared_with"]
    with pytest.warns(UserWarning, match="copies and membership are omitted"):
        assert "nll_baseline" not in feller.evaluate(run, data=rows[:-1], n=100).metrics
    again = pd.concat([rows[:100], others[:20]])
    with pytest.warns(UserWarning, match=r"of the 120 examples are also"):
        feller.evaluate(run, data=again, train=rows, n=100)


def test_rows_of_a_fit_that_are_given_as_others_are_counted(here: pathlib.Path) -> None:
    draw = np.random.default_rng(0)
    rows, others = (pd.DataFrame(draw.normal(size=(n, 2)), columns=["x", "y"]) for n in (300, 80))
    run = feller.fit(rows, out="run", steps=3, size="tiny", report=False)
    with pytest.warns(UserWarning, match=r"(2|3)\d of the 110 examples are also"):
        feller.evaluate(run, data=pd.concat([others, rows[:30]]), n=50)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* examples are also")
        feller.evaluate(run, data=others, n=50)


@pytest.mark.parametrize("moment", ["restore_state", "record_job", "_train"])
def test_an_overwrite_that_is_killed_forgets_nothing_and_the_next_works(here, monkeypatch, moment):
    def end(*args: object, **more: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    rows = people(400, 0)
    run = feller.fit(rows, out="run", **TINY)
    first = json.loads(run.folder.ledger.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(f"feller.app.workflows.fit.{moment}", end)
        with pytest.raises(KeyboardInterrupt):
            feller.fit(rows, out="run", overwrite=True, **TINY)
    (run.path / ".ledger.json.abc").write_text("{")  # what was being written
    feller.fit(rows, out="run", overwrite=True, **TINY)
    spent = [json.loads(path.read_text()) for path in sorted(run.path.glob("spent/*/ledger.json"))]
    assert spent[0] == first
    assert len(spent) == 2  # what the search for columns spent, at least
    assert {one["label"] for one in spent[1]["events"]} <= {one["label"] for one in first["events"]}
    assert not (run.path / ".ledger.json.abc").exists()


def test_a_folder_that_no_fit_has_locked_is_left_alone(here: pathlib.Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "report.html").write_text("mine")
    with pytest.raises(UsageError) as error:
        feller.fit(people(60, 0), out="mine", overwrite=True, steps=1, size="tiny", report=False)
    assert error.value.file == "mine"
    assert (here / "mine" / "report.html").read_text() == "mine"


def test_the_page_of_a_frame_names_the_call_that_makes_it(here: pathlib.Path) -> None:
    rows = people(400, 0)
    run = feller.fit(rows, out="run", fields={"train.batch_size": 64}, **TINY)
    call = fit_command(run.folder, read_fit_record(run.folder), read_train_config(run.folder))
    again = eval(call.replace("'run'", "'again'"), {"feller": feller, "rows": rows})
    assert again.sample(20).equals(run.sample(20))
    assert str(again.path) == "again"
