"""Best guesses of cells: quantiles and means against sums over all integers."""

import numpy as np

from feller.data.tables.best_cells import best_guess, code_means, mean_guess, mean_units, mode, quantile
from feller.data.tables.column import Categorical
from feller.data.tables.numerical_column import Numerical

COLUMN = Numerical("x", 0.0, 40.0, edges=(10.0, 20.0), heavy=(5.0,), missing="")
"""Codes: 0 to 9 without 5; 5; 10 to 19; 20 to 40; missing."""
PROBS = np.array([[0.2, 0.1, 0.3, 0.2, 0.2], [0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])


def values(codes: np.ndarray, uniforms: np.ndarray) -> list[str]:
    return COLUMN.cells(codes, uniforms).to_pylist()


def test_means_of_codes() -> None:
    truth = {(0, 9): 40 / 9, (5, 5): 5.0, (10, 19): 14.5, (20, 40): 30.0}
    wanted = [truth[COLUMN.levels.span(code)] for code in range(4)]
    assert np.abs(code_means(COLUMN) - wanted).max() < 0.05


def test_the_mean_ignores_missing_cells() -> None:
    means = mean_units(PROBS, COLUMN)
    first = float(PROBS[0, :4] @ code_means(COLUMN)) / 0.8
    assert abs(means[0] - first) < 1e-12
    assert abs(means[1] - code_means(COLUMN)[1]) < 1e-12
    assert np.isnan(means[2])
    found = values(*mean_guess(PROBS, COLUMN))
    assert found[0] == str(round(first))
    assert found[2] == ""


def test_quantiles_invert_the_distribution() -> None:
    """Quantiles of 100,000 draws are off by at most one integer."""
    rng = np.random.default_rng(0)
    codes = rng.choice(4, 100_000, p=PROBS[0, :4] / 0.8)
    draws = COLUMN.levels.draw(codes, rng.random(len(codes)))
    for level in (0.1, 0.5, 0.9):
        assert abs(int(values(*quantile(PROBS[:1], COLUMN, level))[0]) - np.quantile(draws, level)) <= 1
    assert values(*best_guess(PROBS, COLUMN))[1:] == [values(np.array([1]), np.array([0.5]))[0], ""]


def test_the_mode_of_words() -> None:
    column = Categorical("w", ("a", "b"), missing="?")
    codes, _ = mode(np.array([[0.3, 0.2, 0.5], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0]]), column)
    assert codes.tolist() == [0, 1, 2]
