"""Accuracy of imputation on five mixed tables, against scikit-learn: python -m benchmarks.imputation FOLDER.

Each table loses 20 % of its cells; all methods see the table with its gaps only. Categories are scored by their error
rate, numbers by the mean absolute error in interquartile ranges; both are means over columns. The last lines are mean
ranks over all tables and both scores, of all methods and of feller with `IterativeImputer` alone.

The tables are files with headers in a folder: adult_train.csv.gz, bank_additional_full.csv.gz, german_credit.csv.gz of
the UCI repository, telco_churn.csv.gz of IBM, and california_housing.csv.gz of the census of 1990.
"""

import argparse
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes IterativeImputer importable
from sklearn.impute import IterativeImputer

import feller

FILES = ("german_credit", "california_housing", "bank_additional_full", "telco_churn", "adult_train")
SHARE = 0.2
"""Share of the cells that are missing."""
CODES = ("investment_as_income_percentage", "residence_since", "number_of_credits", "people_liable_for", "credit")
"""Columns of whole numbers that are categories."""
DROPPED = ("customerID", "education-num")
FOREST = {"n_estimators": 60, "min_samples_leaf": 2, "random_state": 0}
ROUNDS = 3
"""Number of passes over all columns of the models in turn."""
Imputer = Callable[[pd.DataFrame], pd.DataFrame]


def is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def load(path: pathlib.Path, rows: int) -> pd.DataFrame:
    """Return random complete rows of a table."""
    frame = pd.read_csv(path, keep_default_na=False)
    frame = frame.drop(columns=[name for name in DROPPED if name in frame])
    for name in ("TotalCharges", "total_bedrooms"):
        if name in frame:
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
    frame = frame.dropna().sample(frac=1, random_state=0).head(rows).reset_index(drop=True)
    for name in list(map(str, frame)):
        if name in CODES or name == "SeniorCitizen":
            frame[name] = "c" + frame[name].astype(str)
        elif is_number(frame[name]):
            frame[name] = frame[name].astype(float)
        else:
            frame[name] = frame[name].replace("?", "unknown")
    return frame


def gaps(frame: pd.DataFrame, pattern: str, seed: int) -> np.ndarray:
    """Return the mask of missing cells, completely at random (mcar), or at random given two observed columns (mar)."""
    rng = np.random.default_rng(1000 + seed)
    if pattern == "mcar":
        return rng.random(frame.shape) < SHARE
    number = next(name for name in frame if is_number(frame[name]))
    word = next(name for name in frame if not is_number(frame[name]))
    ranks = (frame[number].rank(pct=True), pd.Series(pd.factorize(frame[word])[0]).rank(pct=True))
    mask = np.zeros(frame.shape, dtype=bool)
    for j, name in enumerate(frame):
        if name in (number, word):
            continue
        rank = ranks[j % 2] if j // 2 % 2 else 1 - ranks[j % 2]
        odds = np.exp(3 * rank.to_numpy())
        mask[:, j] = rng.random(len(frame)) < np.clip(SHARE * odds / odds.mean(), 0, 0.9)
    return mask


def scores(truth: pd.DataFrame, filled: pd.DataFrame, mask: np.ndarray) -> tuple[float, float]:
    """Return the error rate of categories, and the mean absolute error of numbers in interquartile ranges."""
    rates, errors = [], []
    for j, name in enumerate(truth):
        cells, true, found = mask[:, j], truth[name], filled[name]
        if not cells.any():
            continue
        if is_number(true):
            spread = true.quantile(0.75) - true.quantile(0.25) or true.std()
            errors.append((true[cells] - found[cells].astype(float)).abs().mean() / spread)
        else:
            rates.append((true[cells].astype(str) != found[cells].astype(str)).mean())
    return float(np.mean(rates)), float(np.mean(errors))


def most_frequent(frame: pd.DataFrame) -> pd.DataFrame:
    usual = {c: frame[c].median() if is_number(frame[c]) else frame[c].mode()[0] for c in frame}
    return frame.fillna(usual)


def as_codes(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.Index]]:
    """Return numbers, with NaN for missing cells, and the values of each column of words."""
    codes, words = {}, {}
    for name in frame:
        if is_number(frame[name]):
            codes[name] = frame[name].astype(float)
        else:
            cells = pd.Categorical(frame[name])
            codes[name], words[name] = pd.Series(cells.codes, frame.index, dtype=float), cells.categories
            codes[name] = codes[name].where(codes[name] >= 0)
    return pd.DataFrame(codes), words


def from_codes(codes: pd.DataFrame, words: dict[str, pd.Index]) -> pd.DataFrame:
    columns: dict[object, pd.Series] = {c: codes[c] for c in codes}
    for name, values in words.items():
        index = codes[name].round().clip(0, len(values) - 1).to_numpy().astype(int)
        columns[name] = pd.Series(values.to_numpy()[index], codes.index)
    return pd.DataFrame(columns, codes.index)


def ordinal(frame: pd.DataFrame) -> pd.DataFrame:
    """IterativeImputer on ordinal codes, which are rounded."""
    codes, words = as_codes(frame)
    return from_codes(pd.DataFrame(IterativeImputer(random_state=0).fit_transform(codes), columns=codes.columns), words)


def indicators(frame: pd.DataFrame) -> pd.DataFrame:
    """IterativeImputer on standardised indicators, of which the largest is taken.

    Indicators of a column are missing together and sum to 1, so that the regressions return their mean: the mode.
    """
    codes, words = as_codes(frame)
    parts = {(c, -1): codes[c] for c in codes if c not in words}
    for name, values in words.items():
        for k in range(len(values)):
            parts[name, k] = (codes[name] == k).astype(float).where(codes[name].notna())
    table = pd.DataFrame(parts)
    mean, std = table.mean(), table.std().replace(0, 1)
    found = IterativeImputer(random_state=0).fit_transform((table - mean) / std)
    filled = pd.DataFrame(found, columns=table.columns) * std + mean
    columns = {c: filled[c, -1] if c not in words else filled[c].to_numpy().argmax(1) for c in codes}
    return from_codes(pd.DataFrame(columns), words)


def in_turn(frame: pd.DataFrame, make: Callable[[bool, list[bool]], Any]) -> pd.DataFrame:
    """Impute one column after the other by a model of all others, for three rounds, as in missForest.

    `make` returns a model of a column: a classifier or a regressor, given which of the other columns are words.
    """
    missing, (filled, words) = frame.isna(), as_codes(most_frequent(frame))
    for _ in range(ROUNDS):
        for name in missing.sum().sort_values().index:
            unknown, others = missing[name], filled.drop(columns=name)
            if unknown.any():
                model = make(name in words, [other in words for other in others])
                model.fit(others[~unknown], filled.loc[~unknown, name])
                filled.loc[unknown, name] = model.predict(others[unknown])
    return from_codes(filled, words)


def forest(is_word: bool, words: list[bool]) -> Any:
    if is_word:
        return RandomForestClassifier(**FOREST, max_features="sqrt")
    return RandomForestRegressor(**FOREST, max_features=1 / 3)


def boosted(is_word: bool, words: list[bool]) -> Any:
    common = {"categorical_features": words, "early_stopping": False, "random_state": 0}
    if is_word:
        return HistGradientBoostingClassifier(**common, max_iter=40)
    return HistGradientBoostingRegressor(**common, max_iter=60, loss="absolute_error")


def best_guess(frame: pd.DataFrame, fields: dict[str, object] | None = None) -> pd.DataFrame:
    model = feller.Synthesizer(recipe="table", fields=fields, seed=0, verbose=False).fit(frame)
    filled = model.impute(frame, strategy="best")
    assert isinstance(filled, pd.DataFrame)
    return filled


METHODS: dict[str, Imputer] = {
    "feller, random orders": lambda frame: best_guess(frame, {"objective.shuffle_prob": 1.0}),
    "feller": best_guess,
    "IterativeImputer, codes": ordinal,
    "IterativeImputer, indicators": indicators,
    "most frequent, median": most_frequent,
    "random forests in turn": lambda frame: in_turn(frame, forest),
    "boosted trees in turn": lambda frame: in_turn(frame, boosted),
}


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="folder of the tables")
    parser.add_argument("--tables", nargs="+", choices=FILES, default=FILES, help="tables to measure")
    parser.add_argument("--rows", type=int, default=1000, help="rows of each table")
    parser.add_argument("--seeds", type=int, default=1, help="number of masks of each table")
    parser.add_argument("--pattern", choices=("mcar", "mar"), default="mcar")
    options = parser.parse_args()
    paths = {name: options.folder / f"{name}.csv.gz" for name in options.tables}
    records = []
    for seed in range(options.seeds):
        for table, path in paths.items():
            frame = load(path, options.rows)
            mask = gaps(frame, options.pattern, seed)
            for name, impute in METHODS.items():
                begin = time.process_time()
                rate, error = scores(frame, impute(frame.mask(mask)), mask)
                records.append((f"{table} {seed}", name, rate, error))
                seconds = time.process_time() - begin
                print(f"{table:22} {seed} {name:30} {rate:.3f} {error:.3f} {seconds:5.0f} CPU s", flush=True)
    found = pd.DataFrame(records, columns=["table", "method", "categories", "numbers"])
    iterative = [name for name in METHODS if name.startswith("Iterative")]
    for names in (list(METHODS), *([name, *iterative] for name in METHODS if name.startswith("feller"))):
        part = found[found.method.isin(names)]
        ranks = part.groupby("table")[["categories", "numbers"]].rank().mean(axis=1)
        print(ranks.groupby(part.method).mean().sort_values().round(2).to_string())


if __name__ == "__main__":
    main()
