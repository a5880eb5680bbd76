"""Uses of a fitted table: prediction and imputation, against a known joint distribution."""

import functools
import pathlib

import numpy as np
import pandas as pd
import pytest

import feller
from feller.core.errors import UsageError

N = 4000


def table(n: int = N, seed: int = 0) -> pd.DataFrame:
    """A word that depends on a number, and a number that depends on both: p(yes | k) = (1 + 2 k) / 8."""
    rng = np.random.default_rng(seed)
    k = rng.integers(0, 4, n)
    yes = rng.random(n) < (1 + 2 * k) / 8
    x = 10.0 * k + 5.0 * yes + rng.normal(0, 2, n)
    word = np.where(yes, "yes", "no")
    return pd.DataFrame({"k": k.astype(str), "x": x.round(1), "word": word, "w": np.where(yes, "A", "B")})


@functools.cache
def synthesizer(recipe: str = "table-marginals") -> feller.Synthesizer:
    steps = {} if recipe == "table-marginals" else {"steps": 120, "size": "tiny", "fields": {"train.batch_size": 256}}
    made = feller.Synthesizer(recipe=recipe, target="word", schema=SCHEMA, **steps)  # type: ignore[arg-type]
    return made.fit(table())


SCHEMA = {
    "columns": {
        "k": {"kind": "categorical", "values": ["0", "1", "2", "3"]},
        "x": {"kind": "numerical", "low": -20, "high": 60, "bins": 32, "form": {"decimals": 1}},
        "word": {"kind": "categorical", "values": ["no", "yes"]},
        "w": {"kind": "categorical", "values": ["A", "B"]},
    }
}


@pytest.mark.parametrize("recipe", ["table-marginals", "table"])
def test_probabilities_are_those_of_the_joint(recipe: str) -> None:
    """Given k alone, with x and w averaged over; the standard error of a share of 1,000 rows is 0.016."""
    made = synthesizer(recipe)
    assert list(made.classes_) == ["no", "yes"]
    found = made.predict_proba(pd.DataFrame({"k": ["0", "1", "2", "3"]}))
    assert found.shape == (4, 2)
    assert np.abs(found.sum(1) - 1).max() < 1e-9
    assert np.abs(found[:, 1] - (1 + 2 * np.arange(4)) / 8).max() < (0.06 if recipe == "table-marginals" else 0.12)


@pytest.mark.parametrize("recipe", ["table-marginals", "table"])
def test_predictions_use_all_other_columns(recipe: str) -> None:
    made, rows = synthesizer(recipe), table(400, seed=1)
    assert (made.predict(rows) == rows["word"]).mean() > 0.99  # the column w tells
    assert made.predict(rows.drop(columns=["word", "w"])).shape == (400,)
    mean = made.predict(rows, target="x")
    truth = 10.0 * rows["k"].astype(float) + 5.0 * (rows["word"] == "yes")
    assert np.sqrt(((mean - truth) ** 2).mean()) < 1.5
    low, high = made.predict_quantiles(rows, (0.05, 0.95), target="x").T
    assert 0.85 < ((rows["x"] >= low) & (rows["x"] <= high)).mean() < 0.99


def test_wrong_targets_are_refused() -> None:
    made = synthesizer()
    with pytest.raises(UsageError) as error:
        made.predict_proba(table(3), target="x")  # bins of several numbers
    assert error.value.argument == "target"
    with pytest.raises(UsageError) as error:
        made.predict(table(3), target="words")
    assert error.value.argument == "target"
    with pytest.raises(UsageError):
        made.predict_quantiles(table(3), target="word")


def masked(rows: pd.DataFrame, seed: int = 5) -> pd.DataFrame:
    return rows.mask(np.random.default_rng(seed).random(rows.shape) < 0.3)


@pytest.mark.parametrize("recipe", ["table-marginals", "table"])
@pytest.mark.parametrize("strategy", ["sample", "best", "mean"])
def test_imputation_fills_what_is_missing(recipe: str, strategy: str) -> None:
    rows = table(300, seed=2).set_axis(range(7, 307))
    partial = masked(rows)
    found = synthesizer(recipe).impute(partial, strategy=strategy)
    assert isinstance(found, pd.DataFrame)
    assert list(found.columns) == list(rows.columns)
    assert found.index.equals(rows.index)
    assert not found.isna().any().any()
    pd.testing.assert_frame_equal(found.where(partial.notna()), partial, check_dtype=False)
    error = (found["x"] - rows["x"])[partial["x"].isna() & partial["k"].notna() & partial["word"].notna()].abs().mean()
    assert error < 4.5


def test_best_guesses_are_better_than_samples() -> None:
    rows = table(600, seed=3)
    partial = masked(rows)
    errors = {}
    for strategy in ("best", "sample"):
        found = synthesizer().impute(partial, strategy=strategy)
        assert isinstance(found, pd.DataFrame)
        errors[strategy] = (found["x"] - rows["x"])[partial["x"].isna()].abs().mean()
    assert errors["best"] < 0.85 * errors["sample"]


def test_rows_do_not_depend_on_others() -> None:
    partial = masked(table(40, seed=4))
    for strategy in ("sample", "best"):
        whole, part = (synthesizer("table").impute(rows, strategy=strategy) for rows in (partial, partial[:9]))
        assert isinstance(whole, pd.DataFrame)
        assert isinstance(part, pd.DataFrame)
        pd.testing.assert_frame_equal(whole[:9], part)


def test_intervals_of_several_imputations_cover() -> None:
    """Rubin's rules for the mean of x, 40 % of which is missing with a chance that depends on k.

    Of 200 intervals of 95 %, fewer than 180 cover with probability 0.001 if they are right.
    """
    made, repeats, n, m, covered = synthesizer(), 200, 60, 5, 0
    truth = 10 * 1.5 + 5 * 0.5
    rows = table(repeats * n, seed=6)
    hide = np.random.default_rng(7).random(len(rows)) < np.where(rows["k"].astype(int) < 2, 0.6, 0.2)
    frames = made.impute(rows.assign(x=rows["x"].mask(hide)), m=m)
    assert isinstance(frames, list)
    assert len(frames) == m
    values = np.stack([frame["x"].to_numpy(dtype=float).reshape(repeats, n) for frame in frames])
    means, within = values.mean(2), values.var(2, ddof=1) / n
    between = means.var(0, ddof=1)
    total = within.mean(0) + (1 + 1 / m) * between
    df = (m - 1) * (1 + within.mean(0) / ((1 + 1 / m) * between)) ** 2
    from scipy.stats import t

    covered = int((np.abs(means.mean(0) - truth) <= t.ppf(0.975, df) * np.sqrt(total)).sum())
    assert 180 <= covered <= 199


def test_wrong_imputations_are_refused() -> None:
    made, rows = synthesizer(), masked(table(5))
    for arguments in ({"m": 0}, {"m": 3, "strategy": "best"}, {"strategy": "median"}):
        with pytest.raises(UsageError) as error:
            made.impute(rows, **arguments)  # type: ignore[arg-type]
        assert error.value.argument in arguments


@pytest.mark.parametrize("recipe", ["table-marginals", "table"])
def test_shares_are_set_and_the_rest_follows(recipe: str) -> None:
    """The standard error of a share of 2,000 rows is at most 0.011; p(k = 3 | yes) = 7/16, p(k = 3 | no) = 1/16."""
    made = synthesizer(recipe)
    rows = made.sample(2000, shares={"word": {"yes": 0.8}})
    assert abs((rows["word"] == "yes").mean() - 0.8) < 0.045
    assert abs((rows["k"] == "3").mean() - (0.8 * 7 + 0.2) / 16) < (0.06 if recipe == "table-marginals" else 0.1)
    assert ((rows["w"] == "A") == (rows["word"] == "yes")).mean() > 0.97


def test_unnamed_values_keep_their_proportions() -> None:
    counts = synthesizer().sample(3000, shares={"k": {"0": 0.7}})["k"].value_counts(normalize=True)
    assert abs(counts["0"] - 0.7) < 0.04
    assert abs(counts["1"] - 0.1) < 0.03
    assert abs(counts["3"] - 0.1) < 0.03


def test_the_target_is_independent_of_the_sensitive_column() -> None:
    """Both keep their distribution. Without the option, the share of yes differs by 0.75 between k = 0 and k = 3."""
    made = synthesizer()
    before, after = made.sample(3000), made.sample(3000, fair="k")
    rates = [(rows["word"] == "yes").groupby(rows["k"]).mean() for rows in (before, after)]
    assert rates[0].max() - rates[0].min() > 0.6
    assert rates[1].max() - rates[1].min() < 0.09
    assert abs((after["word"] == "yes").mean() - 0.5) < 0.04
    assert np.abs(after["k"].value_counts(normalize=True) - 0.25).max() < 0.04


def test_wrong_shares_are_refused() -> None:
    made = synthesizer()
    wrong = [
        ({"word": {"yes": 1.2}}, "word"),
        ({"word": {"yes": 0.5, "no": 0.6}}, "word"),
        ({"word": {"yes": 0.5, "no": 0.1}}, "word"),
        ({"word": {"yse": 0.5}}, "word"),
        ({"x": {"1.0": 0.5, "1.1": 0.5}}, "x"),
    ]
    for shares, argument in wrong:
        with pytest.raises(UsageError) as error:
            made.sample(10, shares=shares)  # type: ignore[arg-type]
        assert error.value.argument == argument
    with pytest.raises(UsageError):
        made.sample(10, shares={"word": {"yes": 0.5}}, given={"word": "yes"})
    for column in ("word", "sex"):
        with pytest.raises(UsageError) as error:
            made.sample(10, fair=column)
        assert error.value.argument == "fair"


def test_completed_shards_equal_one_file(tmp_path: pathlib.Path) -> None:
    """A damaged shard is imputed again when the command is repeated; the other shards are kept."""
    rows = masked(table(50, seed=8))
    run, file = synthesizer("table").fitted_run(), tmp_path / "partial.csv"
    rows.to_csv(file, index=False)
    whole, again = (
        tmp_path / "whole.csv",
        {"complete": str(file), "shard_size": 20, "out": str(tmp_path / "parts/x.csv")},
    )
    run.sample(complete=str(file), out=str(whole))
    shards = [*run.sample(**again)]
    assert len(shards) == 3
    texts = [shard.read_text() for shard in shards]
    joined = texts[0] + "".join(text.partition("\n")[2] for text in texts[1:])
    assert joined == whole.read_text()
    shards[1].write_text("k")
    times = [shard.stat().st_mtime_ns for shard in shards]
    run.sample(**again)
    assert [shard.read_text() for shard in shards] == texts
    assert [shard.stat().st_mtime_ns == t for shard, t in zip(shards, times, strict=True)] == [True, False, True]


def test_imputations_are_numbered_files(tmp_path: pathlib.Path) -> None:
    rows = masked(table(40, seed=9))
    run = synthesizer().fitted_run()
    run.sample(complete=rows, imputations=2, out=str(tmp_path / "full.csv"))
    first, second = (pd.read_csv(tmp_path / f"full-{i}.csv") for i in (1, 2))
    assert len(first) == len(second) == 40
    assert not first.equals(second)
    for arguments in ({"imputations": 2}, {"impute": "best"}, {"complete": rows, "fair": "k"}):
        with pytest.raises(UsageError) as error:
            run.sample(**arguments)
        assert error.value.argument in arguments
