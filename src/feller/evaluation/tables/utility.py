"""Utility of a synthetic table: scores of several learners that are trained on it and tested on real rows."""

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
    """Encoder of table rows as features: ordered columns as numbers, other columns one-hot."""

    counts: tuple[int, ...]
    is_ordered: tuple[bool, ...]
    target: int
    """Index of the target column, which is excluded from the features."""

    @property
    def has_no_inputs(self) -> bool:
        """True if there is no feature column."""
        return len(self.counts) < 2

    def one_hot(self, codes: Int64[Tensor, "n k"]) -> Any:
        """Return the one-hot encoding of the unordered columns as a sparse float32 matrix."""
        from scipy.sparse import csr_matrix

        columns = [j for j in range(len(self.counts)) if not self.is_ordered[j] and j != self.target]
        starts = np.cumsum([0, *(self.counts[j] for j in columns)])
        indices = codes[:, columns].cpu().numpy() + starts[:-1]
        row_starts, ones = np.arange(len(codes) + 1) * len(columns), np.ones(indices.size, dtype=np.float32)
        return csr_matrix((ones, indices.ravel(), row_starts), shape=(len(codes), int(starts[-1])))

    def numbers(self, codes: Int64[Tensor, "n k"]) -> np.ndarray:
        """Return the ordered columns as a float32 matrix."""
        columns = [j for j in range(len(self.counts)) if self.is_ordered[j] and j != self.target]
        return codes[:, columns].to(torch.float32).cpu().numpy()

    def unscaled(self, codes: Int64[Tensor, "n k"]) -> Any:
        """Return all features without scaling, for tree models."""
        return _hstack(self.one_hot(codes), self.numbers(codes))

    def scaled(self, codes: Int64[Tensor, "n k"], like: Int64[Tensor, "m k"]) -> Any:
        """Return all features for linear models; numbers are standardized by their statistics in the table `like`."""
        reference_numbers = self.numbers(like).astype(np.float64)
        deviations = reference_numbers.std(0)
        numbers = (self.numbers(codes) - reference_numbers.mean(0)) / np.where(deviations > 0, deviations, 1)
        return _hstack(self.one_hot(codes), numbers.astype(np.float32))


def _hstack(one_hot: Any, numbers: np.ndarray) -> Any:
    from scipy.sparse import csr_matrix, hstack

    return hstack([one_hot, csr_matrix(numbers)], format="csr")


MAX_ROWS = 100_000
"""Maximum number of training rows that are used."""
TREES, DEPTH, LEARNING_RATE = 100, 6, 0.15
"""Number of trees, their depth, and learning rate of gradient boosting."""
ITERATIONS = 300
"""Maximum number of optimizer iterations of the linear model."""
LEARNERS = ("boosted", "linear", "forest")
"""Names of the learners in the keys of metrics: gradient boosting, logistic or ridge regression, and random forest."""
FOREST_ROWS, FOREST_TREES, FOREST_LEAF = 10_000, 50, 3
"""Maximum number of training rows of the random forest, its number of trees, and minimum number of rows in a leaf."""
Scores = dict[str, float | None]
PredictFn = Callable[[Int64[Tensor, "n k"]], Float64[np.ndarray, "n answers"]]
"""Function from the category indices of rows to class probabilities, for the classes in the training table, or to one
predicted value per row."""


@dataclass(frozen=True)
class PredictionTask:
    """Prediction of the target column from the other columns: regression if `levels` is given, else classification."""

    features: FeatureEncoder
    num_answers: int
    """Number of valid categories of the target; rows with other category indices are dropped."""
    levels: tuple[float, ...] | None = None
    """Numeric value of each category of the target, or NaN to drop rows with this category; None for classification."""

    def with_answer(self, codes: Int64[Tensor, "n k"]) -> Int64[Tensor, "m k"]:
        """Return the rows that have a valid category in the target column."""
        rows = codes[codes[:, self.features.target] < self.num_answers]
        if self.levels is None:
            return rows
        return rows[~torch.tensor(self.levels, device=codes.device).isnan()[rows[:, self.features.target]]]

    def with_extra_code(self) -> "PredictionTask":
        """Return the task with one more category per column, which stands for invalid values."""
        return replace(self, features=replace(self.features, counts=tuple(c + 1 for c in self.features.counts)))

    def truth(self, codes: Int64[Tensor, "n k"]) -> np.ndarray:
        """Return the true targets of rows: class indices, or numeric values for regression."""
        target_codes = codes[:, self.features.target].cpu().numpy()
        return target_codes if self.levels is None else np.array(self.levels)[target_codes]


def task(
    counts: Sequence[int], ordered: Sequence[bool], target: int, levels: Sequence[float] | None = None
) -> PredictionTask:
    """Return the prediction task: regression for an ordered target of more than two categories, else classification.

    Args:
        counts: Number of categories of each column.
        ordered: True for columns with ordered categories.
        target: Index of the target column.
        levels: Numeric value of each category of the target; default: the category index.

    Raises:
        UsageError: If `target` is out of range, or the number of levels differs from the number of categories.
    """
    if not 0 <= target < len(counts):
        raise UsageError(f"a target index from 0 to {len(counts) - 1}", target)
    if levels is not None and len(levels) != counts[target]:
        raise UsageError(f"levels: {counts[target]} numbers, one for each value of the target", len(levels))
    is_number = ordered[target] and counts[target] > 2
    level_values = tuple(map(float, range(counts[target]) if levels is None else levels)) if is_number else None
    return PredictionTask(FeatureEncoder(tuple(counts), tuple(ordered), target), counts[target], level_values)


def boosting() -> str:
    """Return the name and version of the gradient boosting library: xgboost if installed, else scikit-learn."""
    try:
        import xgboost
    except ImportError:
        import sklearn

        return f"scikit-learn {sklearn.__version__}"
    return f"xgboost {xgboost.__version__}"


def utility(
    task: PredictionTask, train: Int64[Tensor, "n k"], tested: Int64[Tensor, "m k"], positive: int, rng: Rng
) -> dict[str, Scores]:
    """Train models on one table and score them on another.

    Args:
        task: Prediction task.
        train: Training rows; at most MAX_ROWS are used.
        tested: Real test rows; macro F1 is averaged over the classes that occur in them.
        positive: Index of the positive class for F1 if there are two classes.
        rng: Random stream for subsampling.

    Returns:
        Scores of `boosted`, `linear` and `forest` models: `auc`, `accuracy`, `f1`, or `r2` and `mae`. They are None if
        the target is constant in the training rows, if no row has a valid target, or if there is no feature column.
    """
    train, tested = subsample_rows(task.with_answer(train), MAX_ROWS, rng), task.with_answer(tested)
    names = ("auc", "accuracy", "f1") if task.levels is None else ("r2", "mae")
    if task.features.has_no_inputs or not len(tested) or len(np.unique(task.truth(train))) < 2:
        return {model: dict.fromkeys(names) for model in LEARNERS}
    scores = {}
    for model, fit in zip(LEARNERS, (boosted_predictor, _linear, _forest), strict=True):
        predictions, truth = fit(task, train)(tested), task.truth(tested)
        if task.levels is None:
            scores[model] = classification(predictions, np.unique(task.truth(train)), truth, positive)
        else:
            scores[model] = regression(predictions[:, 0], truth)
    return scores


def boosted_predictor(task: PredictionTask, train: Int64[Tensor, "n k"]) -> PredictFn:
    """Fit gradient boosting and return its predictor."""
    is_class = task.levels is None
    try:
        import xgboost

        cls = xgboost.XGBClassifier if is_class else xgboost.XGBRegressor
        model = cls(
            n_estimators=TREES,
            max_depth=DEPTH,
            learning_rate=LEARNING_RATE,
            n_jobs=1,
            random_state=0,
            tree_method="hist",
        )
    except ImportError:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        cls = HistGradientBoostingClassifier if is_class else HistGradientBoostingRegressor
        model = cls(max_iter=TREES, max_depth=DEPTH, learning_rate=LEARNING_RATE, random_state=0, early_stopping=False)
        return _fit(model, lambda codes: task.features.unscaled(codes).toarray(), task, train)
    return _fit(model, task.features.unscaled, task, train)


def _forest(task: PredictionTask, train: Int64[Tensor, "n k"]) -> PredictFn:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    cls = RandomForestClassifier if task.levels is None else RandomForestRegressor
    model = cls(FOREST_TREES, min_samples_leaf=FOREST_LEAF, n_jobs=1, random_state=0)
    rows = subsample_rows(train, FOREST_ROWS, Rng(0).fold_in("forest"))
    predict = _fit(model, lambda codes: task.features.unscaled(codes).toarray(), task, rows)
    if task.levels is not None:
        return predict
    classes, seen = np.unique(task.truth(train)), np.unique(task.truth(rows))

    def predict_all(codes: Int64[Tensor, "n k"]) -> Float64[np.ndarray, "n answers"]:
        """Return the probabilities of all classes, 0 for those without a row in the subsample."""
        chances = np.zeros((len(codes), len(classes)))
        chances[:, np.searchsorted(classes, seen)] = predict(codes)
        return chances

    return predict_all


def _linear(task: PredictionTask, train: Int64[Tensor, "n k"]) -> PredictFn:
    """Fit logistic regression for a class target, or ridge regression for a numeric one; return its predictor."""
    from sklearn.linear_model import LogisticRegression, Ridge

    model = LogisticRegression(max_iter=ITERATIONS) if task.levels is None else Ridge()
    return _fit(model, lambda codes: task.features.scaled(codes, train), task, train)


def _fit(model: Any, encode: Callable[[Tensor], Any], task: PredictionTask, train: Int64[Tensor, "n k"]) -> PredictFn:
    truth = task.truth(train)
    if task.levels is not None:
        model.fit(encode(train), truth)
        return lambda codes: np.asarray(model.predict(encode(codes)), dtype=np.float64)[:, None]
    model.fit(encode(train), np.unique(truth, return_inverse=True)[1])
    return lambda codes: np.asarray(model.predict_proba(encode(codes)), dtype=np.float64)


def classification(
    chances: Float64[np.ndarray, "n seen"],
    classes: Int64[np.ndarray, " seen"],
    truth: Int64[np.ndarray, " n"],
    positive: int,
) -> Scores:
    """Return the AUC, accuracy and F1 of class probabilities `chances`, whose column j is for class `classes[j]`.

    Averages are over the classes that occur in `truth`, even if the training table has other classes. For more than two
    classes, `auc` is averaged one-vs-rest, and `f1` is macro-averaged.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    predicted, present = classes[chances.argmax(1)], np.unique(truth)
    scores = {int(c): chances[:, i] for i, c in enumerate(classes)}
    unseen = np.zeros(len(truth))
    areas = [roc_auc_score(truth == c, scores.get(int(c), unseen)) for c in present] if len(present) > 1 else []
    if len(present) <= 2:
        f1 = f1_score(truth == positive, predicted == positive, zero_division=0)
    else:
        f1 = f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    area = float(np.mean(areas)) if areas else None
    return {"auc": area, "accuracy": float((predicted == truth).mean()), "f1": float(f1)}


def regression(predicted: Float64[np.ndarray, " n"], truth: Float64[np.ndarray, " n"]) -> Scores:
    """Return R², which is None if the true values are constant, and the mean absolute error in units of the target."""
    total_variance = np.square(truth - truth.mean()).sum()
    return {
        "r2": float(1 - np.square(predicted - truth).sum() / total_variance) if total_variance > 0 else None,
        "mae": float(np.abs(predicted - truth).mean()),
    }
