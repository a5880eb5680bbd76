"""Utility of a synthetic table: train on synthetic, test on real (boosted trees)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.evaluation.tables.copy_metrics import subsample_rows


@dataclass(frozen=True)
class FeatureEncoder:
    """Columns whose codes have an order as they are; of the others, one column for each code."""

    counts: tuple[int, ...]
    is_ordered: tuple[bool, ...]
    target: int
    """Column that is to be told, and is left out."""

    @property
    def has_no_inputs(self) -> bool:
        """Tell whether there is no column to learn from."""
        return len(self.counts) < 2

    def one_hot(self, codes: Int64[Tensor, "n k"]) -> Any:
        """Return the columns without an order as a sparse float32 matrix [n, codes of all of them]."""
        from scipy.sparse import csr_matrix

        columns = [j for j in range(len(self.counts)) if not self.is_ordered[j] and j != self.target]
        starts = np.cumsum([0, *(self.counts[j] for j in columns)])
        places = codes[:, columns].cpu().numpy() + starts[:-1]
        begins, ones = np.arange(len(codes) + 1) * len(columns), np.ones(places.size, dtype=np.float32)
        return csr_matrix((ones, places.ravel(), begins), shape=(len(codes), int(starts[-1])))

    def numbers(self, codes: Int64[Tensor, "n k"]) -> np.ndarray:
        """Return the columns with an order as float32 [n, their number]."""
        columns = [j for j in range(len(self.counts)) if self.is_ordered[j] and j != self.target]
        return codes[:, columns].to(torch.float32).cpu().numpy()

    def unscaled(self, codes: Int64[Tensor, "n k"]) -> Any:
        """Return all features, for trees."""
        return _hstack(self.one_hot(codes), self.numbers(codes))

    def scaled(self, codes: Int64[Tensor, "n k"], like: Int64[Tensor, "m k"]) -> Any:
        """Return all features with numbers of mean 0 and variance 1 in another table, for linear models."""
        reference_numbers = self.numbers(like).astype(np.float64)
        spread = reference_numbers.std(0)
        numbers = (self.numbers(codes) - reference_numbers.mean(0)) / np.where(spread > 0, spread, 1)
        return _hstack(self.one_hot(codes), numbers.astype(np.float32))


def _hstack(one_hot: Any, numbers: np.ndarray) -> Any:
    from scipy.sparse import csr_matrix, hstack

    return hstack([one_hot, csr_matrix(numbers)], format="csr")


MAX_ROWS = 100_000
"""Rows that a model learns from, at most."""
TREES, DEPTH, LEARNING_RATE = 100, 6, 0.15
"""Of gradient boosting."""
ITERATIONS = 300
"""Of the linear model, at most."""
Scores = dict[str, float | None]
PredictFn = Callable[[Int64[Tensor, "n k"]], Float64[np.ndarray, "n answers"]]
"""Codes -> chance of each class that was seen, or one number."""


@dataclass(frozen=True)
class PredictionTask:
    """What is to be told of a row from its other columns: a class or, where the codes have an order, a number."""

    features: FeatureEncoder
    num_answers: int
    """Codes of the target that stand for a value; rows with another are left out."""
    levels: tuple[float, ...] | None = None
    """The number that each of them stands for; not a number: a row with it is left out. None: they are classes."""

    def with_answer(self, codes: Int64[Tensor, "n k"]) -> Int64[Tensor, "m k"]:
        """Return the rows that have an answer."""
        there = codes[codes[:, self.features.target] < self.num_answers]
        if self.levels is None:
            return there
        return there[~torch.tensor(self.levels, device=codes.device).isnan()[there[:, self.features.target]]]

    def with_extra_code(self) -> "PredictionTask":
        """Leave room for one more code of each column, which stands for no value."""
        return replace(self, features=replace(self.features, counts=tuple(c + 1 for c in self.features.counts)))

    def truth(self, codes: Int64[Tensor, "n k"]) -> np.ndarray:
        """Return the answers: codes of classes, or numbers."""
        answers = codes[:, self.features.target].cpu().numpy()
        return answers if self.levels is None else np.array(self.levels)[answers]


def task(
    counts: Sequence[int], ordered: Sequence[bool], target: int, levels: Sequence[float] | None = None
) -> PredictionTask:
    """Choose what is told: a number if the target is ordered and has more than two codes, else a class.

    Args:
        counts: Codes of each column.
        ordered: Columns whose codes have an order.
        target: Number of the column that is told.
        levels: The number that each code of the target stands for, by default the code itself.

    Raises:
        UsageError: If there is no such column, or if there are fewer or more levels than codes.
    """
    if not 0 <= target < len(counts):
        raise UsageError(f"a target from 0 to {len(counts) - 1}", target, "Name a column of the table")
    if levels is not None and len(levels) != counts[target]:
        raise UsageError(f"{counts[target]} levels, one for each code", len(levels))
    is_number = ordered[target] and counts[target] > 2
    stand_for = tuple(map(float, range(counts[target]) if levels is None else levels)) if is_number else None
    return PredictionTask(FeatureEncoder(tuple(counts), tuple(ordered), target), counts[target], stand_for)


def boosting() -> str:
    """Say which gradient boosting is used: xgboost where it is installed, else that of scikit-learn."""
    try:
        import xgboost
    except ImportError:
        import sklearn

        return f"scikit-learn {sklearn.__version__}"
    return f"xgboost {xgboost.__version__}"


def utility(
    task: PredictionTask, train: Int64[Tensor, "n k"], tested: Int64[Tensor, "m k"], positive: int, rng: Rng
) -> dict[str, Scores]:
    """Train on one table and test on another.

    Args:
        task: What is told.
        train: Rows to learn from.
        tested: Real rows, whose classes decide of what F1 is the mean, whatever classes the others have.
        positive: Which of two classes F1 is of.
        rng: Chooses rows where there are more than MOST.

    Returns:
        Scores of `boosted` and of `linear` models: `auc`, `accuracy`, `f1`, or `r2` and `mae`. None where a table has
        one class or one number only, no row with an answer, or no other column.
    """
    train, tested = subsample_rows(task.with_answer(train), MAX_ROWS, rng), task.with_answer(tested)
    names = ("auc", "accuracy", "f1") if task.levels is None else ("r2", "mae")
    if task.features.has_no_inputs or not len(tested) or len(np.unique(task.truth(train))) < 2:
        return {kind: dict.fromkeys(names) for kind in ("boosted", "linear")}
    scores = {}
    for kind, fit in (("boosted", _boosted), ("linear", _linear)):
        answers, right = fit(task, train)(tested), task.truth(tested)
        if task.levels is None:
            scores[kind] = classification(answers, np.unique(task.truth(train)), right, positive)
        else:
            scores[kind] = regression(answers[:, 0], right)
    return scores


def _boosted(task: PredictionTask, train: Int64[Tensor, "n k"]) -> PredictFn:
    """Fit 100 trees of depth 6."""
    is_class = task.levels is None
    try:
        import xgboost

        kind = xgboost.XGBClassifier if is_class else xgboost.XGBRegressor
        model = kind(
            n_estimators=TREES,
            max_depth=DEPTH,
            learning_rate=LEARNING_RATE,
            n_jobs=1,
            random_state=0,
            tree_method="hist",
        )
    except ImportError:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if is_class else HistGradientBoostingRegressor
        model = kind(max_iter=TREES, max_depth=DEPTH, learning_rate=LEARNING_RATE, random_state=0, early_stopping=False)
        return _fit(model, lambda codes: task.features.unscaled(codes).toarray(), task, train)
    return _fit(model, task.features.unscaled, task, train)


def _linear(task: PredictionTask, train: Int64[Tensor, "n k"]) -> PredictFn:
    """Fit logistic regression, or a linear one with a small penalty."""
    from sklearn.linear_model import LogisticRegression, Ridge

    model = LogisticRegression(max_iter=ITERATIONS) if task.levels is None else Ridge()
    return _fit(model, lambda codes: task.features.scaled(codes, train), task, train)


def _fit(model: Any, see: Callable[[Tensor], Any], task: PredictionTask, train: Int64[Tensor, "n k"]) -> PredictFn:
    truth = task.truth(train)
    if task.levels is not None:
        model.fit(see(train), truth)
        return lambda codes: np.asarray(model.predict(see(codes)), dtype=np.float64)[:, None]
    model.fit(see(train), np.unique(truth, return_inverse=True)[1])
    return lambda codes: np.asarray(model.predict_proba(see(codes)), dtype=np.float64)


def classification(
    chances: Float64[np.ndarray, "n seen"],
    classes: Int64[np.ndarray, " seen"],
    truth: Int64[np.ndarray, " n"],
    positive: int,
) -> Scores:
    """Score chances of the classes that were seen in training.

    Classes are those of the truth: what is learned from tables with other words is then told by one measure. Of more
    than two, `auc` is the mean over classes of one against all others, and `f1` that of each.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    predicted, there = classes[chances.argmax(1)], np.unique(truth)
    chance_of = {int(c): chances[:, i] for i, c in enumerate(classes)}
    none = np.zeros(len(truth))
    areas = [roc_auc_score(truth == c, chance_of.get(int(c), none)) for c in there] if len(there) > 1 else []
    if len(there) <= 2:
        f1 = f1_score(truth == positive, predicted == positive, zero_division=0)
    else:
        f1 = f1_score(truth, predicted, labels=there, average="macro", zero_division=0)
    area = float(np.mean(areas)) if areas else None
    return {"auc": area, "accuracy": float((predicted == truth).mean()), "f1": float(f1)}


def regression(predicted: Float64[np.ndarray, " n"], truth: Float64[np.ndarray, " n"]) -> Scores:
    """Score numbers: share of the variance that is explained, and mean absolute error in their units."""
    spread = np.square(truth - truth.mean()).sum()
    return {
        "r2": float(1 - np.square(predicted - truth).sum() / spread) if spread > 0 else None,
        "mae": float(np.abs(predicted - truth).mean()),
    }
