"""Synthetic tables by the habits of scikit-learn."""

import inspect
import os
import pathlib
import tempfile
from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.exceptions import NotFittedError

from feller.app.api import fit as fit_run
from feller.app.config import FitConfig
from feller.app.options import config_of, unknown_option
from feller.app.results import FittedRun
from feller.core.errors import InputError, UsageError
from feller.data.tables.schema import Schema


class NotFitted(UsageError, NotFittedError):
    """An estimator has seen no table yet; scikit-learn knows it as a `NotFittedError`."""


class Synthesizer:
    """Draws tables like one that it has seen: an estimator with `fit`, `sample`, `get_params` and `set_params`.

    `feller.evaluate`, `audit` and `sample` take it as they take a run. Every `fit` with epsilon spends that much anew:
    a search over k candidates in f folds spends k f + 1 times as much of the same rows.

    Args:
        epsilon: Protect each row; None for no privacy.
        target: Column that a report tells from the others; by default the last one.
        delta: Chance that epsilon does not cover; by default min(1e-5, 1 / rows^1.1).
        schema: Says what is public about the table: a file, a dict as `feller.infer_schema` returns, or a `Schema`; by
            default it is guessed, or found privately.
        recipe: A recipe's name; by default chosen by the table.
        size: tiny, small (the default) or base.
        steps: How many steps to train; by default as the recipe says.
        minutes: How long to train, instead.
        fields: Fields of the recipe by their names, such as {"train.batch_size": 64}.
        seed: Of all randomness but that of privacy.
        unsafe_seed: Of the noise of privacy, for tests alone: whoever knows it can take the noise away.
        out: Folder of the run, for `feller evaluate` and others; by default one that is gone with `run_`.
        overwrite: Replace the run in `out`, so that it can be fitted again.
        report: full, quick or none; by default none.
        verbose: Whether progress shows; by default where people look.

    After `fit`, `run_` is the run, `columns_` are the names of the columns, `n_features_in_` is their number.
    """

    def __new__(cls, *args: object, **params: object) -> "Synthesizer":
        """Refuse names of arguments that there are not, with the nearest."""
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
        """Return the arguments of the constructor, by their names."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: object) -> "Synthesizer":
        """Set arguments of the constructor.

        Raises:
            UsageError: If one has no such name.
        """
        for name, value in params.items():
            if name not in self._names():
                raise unknown_option(FitConfig, name, self._names(), type(self).__name__)
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether it has seen a table."""
        return hasattr(self, "run_")

    def __sklearn_tags__(self) -> object:
        """Tell scikit-learn what it may expect of it."""
        from sklearn.utils import Tags, TargetTags  # pyrefly: ignore - exported as it is imported

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def __repr__(self) -> str:
        """Say what was set."""
        usual = inspect.signature(type(self).__init__).parameters
        changed = {name: one for name, one in self.get_params().items() if one != usual[name].default}
        return f"Synthesizer({', '.join(f'{name}={one!r}' for name, one in changed.items())})"

    def fit(self, X: pd.DataFrame, y: object = None) -> "Synthesizer":
        """Learn a table; columns of `y` are part of it.

        Raises:
            UsageError: If it is no DataFrame, or an argument is wrong.
            InputError: If there is nothing to learn.
        """
        if not isinstance(X, pd.DataFrame):
            raise UsageError("a DataFrame, whose columns have names", type(X).__name__, argument="X")
        table = X if y is None else pd.concat([X, self._target_columns(y, X)], axis=1)
        params = self.get_params()
        folder = None if self.out else tempfile.TemporaryDirectory(prefix="feller-")
        params["out"] = self.out or str(pathlib.Path(folder.name if folder else "") / "run")
        options = {name: value for name, value in params.items() if value is not None}
        self.run_: FittedRun = fit_run(table, config=config_of(FitConfig, **options))
        object.__setattr__(self.run_, "held", folder)  # which goes with the run, not with the estimator
        self.columns_ = list(map(str, table.columns))
        self.feature_names_in_ = np.array(list(map(str, X.columns)), dtype=object)
        self.n_features_in_ = X.shape[1]
        return self

    @staticmethod
    def _target_columns(y: object, X: pd.DataFrame) -> pd.DataFrame | pd.Series:
        """Return answers as columns with the index of the table."""
        if isinstance(y, pd.DataFrame | pd.Series):
            named = y if isinstance(y, pd.DataFrame) or y.name is not None else y.rename("target")
            return named.set_axis(X.index)
        return pd.Series(np.asarray(y), X.index, name="target")

    def fitted_run(self) -> FittedRun:
        """Return the run.

        Raises:
            NotFittedError: If nothing was learned yet; a `UsageError`, too.
            InputError: If it lay in a temporary folder of another process, and is gone.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFitted(
                argument="Synthesizer", expected="one that has seen a table", found="none", remedy="Call fit(df) first"
            )
        if not self.run_.path.is_dir():
            here = "the temporary folder of the process that fitted it, with which it went"
            raise InputError(
                argument="run_",
                expected=f"a run in {self.run_.path}",
                found="none" if self.out else f"none: that was {here}",
                remedy="Fit it with out=FOLDER, which is kept with what is pickled",
            )
        return self.run_

    def log_prob(self, X: pd.DataFrame, y: object = None) -> np.ndarray:
        """Return the log probability of rows, [n], in nats; columns of `y` are part of them.

        Raises:
            NotFittedError: If nothing was learned yet.
            InputError: If they are not like those of the fit.
        """
        return self.fitted_run().log_prob(X if y is None else pd.concat([X, self._target_columns(y, X)], axis=1))

    def score(self, X: pd.DataFrame, y: object = None) -> float:
        """Return the mean log probability of rows, in nats, by which a search chooses: more is better."""
        return float(self.log_prob(X, y).mean())

    def sample(self, n: int | None = None, *, given: dict[str, object] | None = None, seed: int = 0) -> pd.DataFrame:
        """Draw rows, with the columns and types of the table.

        Args:
            n: Number of rows; by default 64, as of a run.
            given: Cells that all of them have, by the names of their columns: one, a tuple of the ends of a range, or a
                list of those that may be.
            seed: Of all randomness: another one for other rows.

        Raises:
            NotFittedError: If nothing was learned yet.
            UsageError: If a cell cannot be.
        """
        samples = self.fitted_run().sample(n, given=given, seed=seed, verbose=self.verbose)
        return samples if isinstance(samples, pd.DataFrame) else samples.frame()


Synthesizer.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # pyrefly: ignore
    [one for one in inspect.signature(Synthesizer.__init__).parameters.values() if one.name != "self"]
)
