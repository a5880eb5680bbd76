"""What a script hears of its data: warnings where something was made of them, errors where nothing can be."""

import pathlib
import warnings

import numpy as np
import pandas as pd
import pytest

import feller
from feller.core.errors import FellerWarning
from tests.errors import refuses

TINY = {"size": "tiny", "steps": 2, "report": False}


def people(n=400, seed=0):
    """Return a table whose last column holds nothing."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "school": [f"rare {i}" if i % 8 == 0 else ("Bachelors", "Masters")[i % 2] for i in range(n)],
            "pay": rng.integers(0, 500, n) * 100 + 7,
            "empty": np.full(n, np.nan),
        }
    )


def warned(caught):
    """Return the texts of the warnings of feller."""
    return [str(one.message) for one in caught if issubclass(one.category, FellerWarning)]


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """Return a private run of a frame, and what its fit warned of."""
    folder = tmp_path_factory.mktemp("private")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setenv("XDG_DATA_HOME", str(folder / "home"))
        patch.setattr("feller.app.workflows.private.pretrain_on_marginals.STEPS", 8)
        run = feller.fit(people(), epsilon=8.0, unsafe_seed=0, out=str(folder / "run"), **TINY)
    return run, warned(caught)


def test_a_column_that_holds_nothing_is_told_in_a_script(private):
    run, heard = private
    assert "empty" not in run.sample(3).columns
    assert any("empty" in line for line in heard)
    assert any("OTHER" in line for line in heard)


def test_a_word_that_no_row_has_is_refused(private):
    for given in ("Bachelor", ["Masters", "Bachelor"]):
        with refuses(feller.UsageError, argument="school", found="'Bachelor'", remedy="Did you mean 'Bachelors'?"):
            private[0].sample(3, given={"school": given})
    with refuses(feller.UsageError, argument="school", found="'3'", remedy="Give 'OTHER' for rare words"):
        private[0].sample(3, given={"school": 3})
    assert set(private[0].sample(3, given={"school": "OTHER"})["school"]) == {"OTHER"}


def test_a_number_that_no_row_has_is_warned_of(private):
    with pytest.warns(UserWarning, match="age '5000'"):
        private[0].sample(3, given={"age": 5000})


def test_rows_unlike_those_that_were_learned_are_warned_of(private):
    run, rows = private[0], people(6, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(run.log_prob(rows.assign(school="PhD", age=[20, 30, 40, 50, 1000, 2000]))) == 6
    assert [line.split("'")[0] for line in warned(caught)] == ["age ", "school "]
    with refuses(feller.InputError, column="age", row=1, found="'x'"):
        run.log_prob(rows.assign(age="x"))


@pytest.mark.usefixtures("chdir")
def test_named_levels_of_an_index_become_columns():
    rows = people().drop(columns="empty")
    indexed = rows.set_index(["age", "school"])
    with pytest.warns(UserWarning, match="age, school"):
        run = feller.fit(indexed, out="run", **TINY)
    assert list(run.sample(3).columns) == ["age", "school", "pay"]
    assert run.log_prob(indexed[:4]) == pytest.approx(run.log_prob(rows[:4]))
    assert run.log_prob(rows[:4].rename_axis("another")) == pytest.approx(run.log_prob(rows[:4]))


@pytest.fixture
def chdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("chdir")
def test_frames_that_are_no_tables_are_refused():
    rows = people().drop(columns="empty")
    with refuses(feller.UsageError, argument="data", found="0 rows and 3 columns"):
        feller.fit(rows[:0])
    with refuses(feller.UsageError, argument="data", column="3", found="int 3"):
        feller.fit(rows.rename(columns={"age": 3}))
    with refuses(feller.UsageError, argument="data", column="('a', 'age')", found="a MultiIndex"):
        feller.fit(pd.concat({"a": rows}, axis=1))
    with refuses(feller.UsageError, argument="data", column="age", found="both named 'age'"):
        feller.fit(rows.rename_axis("age"))
    for plain in (rows.to_numpy(), rows.to_dict("records")):
        with refuses(feller.UsageError, argument="data", expected="only numbers, or only strings"):
            feller.fit(plain)
    assert not pathlib.Path("runs").exists()
