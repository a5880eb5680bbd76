"""Synthesizer of tables with the interface of a scikit-learn estimator."""

import inspect
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd
from sklearn.exceptions import NotFittedError

from feller.app.api import fit as fit_run
from feller.app.config import FitConfig
from feller.app.options import config_of, unknown_option
from feller.app.results import FittedRun
from feller.app.workflows.column_prediction import column_classes, target_index
from feller.core.errors import InputError, UsageError
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from feller.models.model import Samples


class NotFitted(UsageError, NotFittedError):
    """Error for an estimator that is not fitted; also a `NotFittedError` of scikit-learn."""


class Synthesizer:
    """Table synthesizer: a scikit-learn estimator that generates synthetic rows.

    `feller.evaluate`, `feller.audit` and `feller.sample` accept a synthesizer in place of a run. Every call of `fit`
    with `epsilon` spends epsilon again: a hyperparameter search over k candidates with f folds spends (k f + 1) epsilon
    in total on the same rows.

    Args:
        epsilon: Privacy budget with respect to single rows, or to persons; None trains without differential privacy.
        target: Column that the report predicts from the others (default: the last one).
        delta: Delta of (epsilon, delta)-differential privacy (default: min(1e-5, 1 / rows^1.1)).
        schema: Public facts about the table: a file, a dict as returned by `feller.infer_schema`, or a `Schema`. By
            default the schema is inferred from the table; with `epsilon` it is estimated with differential privacy.
        recipe: Recipe name (default: chosen from the table).
        size: Size of the network and of the training budget: tiny, small (default) or base.
        steps: Number of training steps (default: that of the recipe).
        minutes: Training time in minutes, instead of `steps`.
        fields: Fields of the recipe by name, such as {"train.batch_size": 64}.
        seed: Random seed of everything except the privacy noise.
        unsafe_seed: Seed of the privacy noise, for tests only: anyone who knows the seed can remove the noise.
        out: Run folder, which commands such as `feller evaluate` can open (default: a temporary folder, which is
            deleted when `run_` is garbage-collected).
        overwrite: Replace the run in `out`, so that `fit` can be repeated.
        report: Report to write: full, quick or none (default: none).
        verbose: Show progress (default: only in interactive sessions).

    After `fit`, `run_` is the run, `columns_` the names of the fitted columns, and `n_features_in_` their number.
    """

    def __new__(cls, *args: object, **params: object) -> "Synthesizer":
        """Raise an error for an unknown argument name, which suggests the nearest valid name."""
        for name in params:
            if name not in cls._names():
                raise unknown_option(FitConfig, name, cls._names(), cls.__name__)
        return super().__new__(cls)

    def __init__(
        self,
        *,
        epsilon: float | None = None,
        target: str | None = None,
        delta: float | None = None,
        schema: str | os.PathLike[str] | Mapping[str, object] | Schema | None = None,
        recipe: str | None = None,
        size: str | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        fields: Mapping[str, object] | None = None,
        seed: int | None = None,
        unsafe_seed: int | None = None,
        out: str | None = None,
        overwrite: bool = False,
        report: str | bool = False,
        verbose: bool | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.target = target
        self.delta = delta
        self.schema = schema
        self.recipe = recipe
        self.size = size
        self.steps = steps
        self.minutes = minutes
        self.fields = fields
        self.seed = seed
        self.unsafe_seed = unsafe_seed
        self.out = out
        self.overwrite = overwrite
        self.report = report
        self.verbose = verbose

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return the constructor arguments by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: object) -> "Synthesizer":
        """Set constructor arguments.

        Raises:
            UsageError: If a name is unknown.
        """
        for name, value in params.items():
            if name not in self._names():
                raise unknown_option(FitConfig, name, self._names(), type(self).__name__)
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Return True after `fit`."""
        return hasattr(self, "run_")

    def __sklearn_tags__(self) -> object:
        """Return the scikit-learn tags, which declare no estimator type and an optional target."""
        from sklearn.utils import Tags, TargetTags  # pyrefly: ignore - exported as it is imported

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def __repr__(self) -> str:
        """Return the constructor call with non-default arguments."""
        defaults = inspect.signature(type(self).__init__).parameters
        changed = {name: value for name, value in self.get_params().items() if value != defaults[name].default}
        return f"Synthesizer({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def fit(self, X: pd.DataFrame, y: object = None) -> "Synthesizer":
        """Fit the model to the table X; the columns of `y` are added to the table.

        Raises:
            UsageError: If X is not a DataFrame, or an argument is wrong.
            InputError: If the table cannot be fitted.
        """
        if not isinstance(X, pd.DataFrame):
            raise UsageError("a DataFrame with named columns", type(X).__name__, argument="X")
        table = X if y is None else pd.concat([X, self._target_columns(y, X)], axis=1)
        params = self.get_params()
        folder = None if self.out else tempfile.TemporaryDirectory(prefix="feller-")
        params["out"] = self.out or str(pathlib.Path(folder.name if folder else "") / "run")
        options = {name: value for name, value in params.items() if value is not None}
        self.run_: FittedRun = fit_run(table, config=config_of(FitConfig, **options))
        object.__setattr__(self.run_, "held", folder)  # the temporary folder lives as long as the run
        self.target_ = None if y is None else str(table.columns[-1])
        self.columns_ = list(map(str, table.columns))
        self.feature_names_in_ = np.array(list(map(str, X.columns)), dtype=object)
        self.n_features_in_ = X.shape[1]
        return self

    @staticmethod
    def _target_columns(y: object, X: pd.DataFrame) -> pd.DataFrame | pd.Series:
        """Return the target `y` as columns with the index of the table."""
        if isinstance(y, pd.DataFrame | pd.Series):
            columns = y if isinstance(y, pd.DataFrame) or y.name is not None else y.rename("target")
            return columns.set_axis(X.index)
        return pd.Series(np.asarray(y), X.index, name="target")

    def fitted_run(self) -> FittedRun:
        """Return the fitted run.

        Raises:
            NotFittedError: If `fit` was not called; also a `UsageError`.
            InputError: If the temporary folder of the run no longer exists.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFitted(
                argument="Synthesizer",
                expected="a fitted estimator",
                found="an unfitted one",
                remedy="Call fit(df) first",
            )
        if not self.run_.path.is_dir():
            temporary = "the temporary folder of the process that fitted the model was deleted"
            raise InputError(
                argument="run_",
                expected=f"a run in {self.run_.path}",
                found="none" if self.out else f"none: {temporary}",
                remedy="Fit with out=FOLDER, which persists when the estimator is pickled",
            )
        return self.run_

    def log_prob(self, X: pd.DataFrame, y: object = None) -> np.ndarray:
        """Return the log-likelihood of each row of X in nats, [n]; the columns of `y` are added to the rows.

        Raises:
            NotFittedError: If `fit` was not called.
            InputError: If the rows do not match the fitted table.
        """
        return self.fitted_run().log_prob(X if y is None else pd.concat([X, self._target_columns(y, X)], axis=1))

    def score(self, X: pd.DataFrame, y: object = None) -> float:
        """Return the mean log-likelihood per row in nats (higher is better), for scikit-learn's model selection."""
        return float(self.log_prob(X, y).mean())

    def sample(
        self,
        n: int | None = None,
        *,
        given: dict[str, object] | None = None,
        shares: dict[str, dict[str, float]] | None = None,
        fair: str | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Sample rows with the columns and dtypes of the fitted table.

        Args:
            n: Number of rows (default: 64).
            given: Conditions by column name: one value, a tuple with the ends of a range, or a list of allowed values.
            shares: Shares of the values of a column, instead of those of the model, such as {"income": {">50K": 0.5}};
                values that are not named get the rest.
            fair: Sensitive column of which the target is made independent (demographic parity).
            seed: Random seed; different seeds give different rows.

        Raises:
            NotFittedError: If `fit` was not called.
            UsageError: If a condition is not a possible value of its column, or a share is wrong.
        """
        options = {"given": given, "shares": shares, "fair": fair, "seed": seed, "verbose": self.verbose}
        samples = cast(Samples, self.fitted_run().sample(n, **options))
        return samples if isinstance(samples, pd.DataFrame) else samples.frame()

    def _target(self, target: str | None = None) -> str | None:
        """Return the target: the argument, that of the constructor, the column of y, or None for that of the schema."""
        return target or self.target or self.target_

    @property
    def classes_(self) -> np.ndarray:
        """Values of the target column, in the order of the columns of `predict_proba`.

        Raises:
            NotFittedError: If `fit` was not called.
            UsageError: If the target is a binned number.
        """
        table = cast(Table, self.fitted_run().model.spec.modality)
        return column_classes(table, table.schema.modelled[target_index(table, self._target())]).to_numpy()

    def predict_proba(self, X: pd.DataFrame, *, target: str | None = None) -> np.ndarray:
        """Return the probability of each class of the target given the other columns of each row, [n, classes].

        Args:
            X: Rows; the target column is ignored, and absent columns are averaged over.
            target: Column to predict (default: `target` of the constructor, the column of y, or the last column).

        Raises:
            NotFittedError: If `fit` was not called.
            InputError: If the rows do not match the fitted table.
            UsageError: If the target is a binned number, or the model has no conditional probabilities.
        """
        return self.fitted_run().predict_proba(X, self._target(target)).to_numpy()

    def predict(self, X: pd.DataFrame, *, target: str | None = None) -> np.ndarray:
        """Return the most likely value of the target, or its mean for numbers, [n]; see `predict_proba`."""
        return self.fitted_run().predict(X, self._target(target)).to_numpy()

    def predict_quantiles(
        self, X: pd.DataFrame, quantiles: Sequence[float] = (0.05, 0.5, 0.95), *, target: str | None = None
    ) -> np.ndarray:
        """Return quantiles of a target of numbers or times, [n, quantiles]; see `predict_proba`."""
        return self.fitted_run().predict_quantiles(X, quantiles, self._target(target)).to_numpy()

    def impute(
        self, X: pd.DataFrame, *, strategy: str = "sample", m: int | None = None, seed: int = 0
    ) -> pd.DataFrame | list[pd.DataFrame]:
        """Impute the missing cells of X; see `FittedRun.impute`.

        Args:
            X: Rows with missing cells; absent columns are imputed too.
            strategy: `sample`, `best` (median or most likely value), or `mean` (mean or most likely value).
            m: Number of imputations (multiple imputation): returns a list of m data frames.
            seed: Random seed.

        Raises:
            NotFittedError: If `fit` was not called.
            InputError: If the rows do not match the fitted table.
            UsageError: If the model cannot impute, or an argument is wrong.
        """
        return self.fitted_run().impute(X, strategy=strategy, m=m, seed=seed)


Synthesizer.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # pyrefly: ignore
    [param for param in inspect.signature(Synthesizer.__init__).parameters.values() if param.name != "self"]
)
