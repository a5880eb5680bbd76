"""Plan of a fit, and the policy by which the fit may use its data."""

import abc
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from feller.app.reporter import Reporter
from feller.app.workflows.fitting.recipe_request import RecipeRequest
from feller.app.workflows.fitting.run_training import TrainingInputs, TrainingJob
from feller.app.workflows.run_config import FitRecord, train_test_split
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.data.loading.in_memory import DataSource
from feller.data.modality import Dataset
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.spec import ModelSpec
from feller.privacy.accounting.dp_events import DpEvent
from feller.privacy.noise.grid_noise import Noise, make_noise
from feller.training.engine import Engine
from feller.training.objective import Objective


@dataclass(frozen=True, eq=False)
class FitPlan:
    """Plan of a fit, with its data, recipe and privacy policy determined."""

    record: FitRecord
    dataset: Dataset
    recipe: Recipe
    start_model: Model | None
    """Model that supplies the initial weights; for a two-stage recipe it is also the teacher."""
    access: "DataAccess"
    """Access to the data: open, or private, which reads, trains and releases with differential privacy."""
    frequencies: dict[str, tuple[float, ...]] | None = None
    """Noisy class frequencies of each condition; None if the exact frequencies may be released."""
    aux_networks: dict[str, str] = field(default_factory=dict)
    """Hashes of the auxiliary networks that a resumed run recorded; see `ModelSpec`."""

    @cached_property
    def split(self) -> tuple[Dataset, Dataset]:
        """Training examples and held-out examples."""
        return train_test_split(self.record, self.dataset)


class DataAccess(abc.ABC):
    """Base class of policies for reading data and training on the data, with or without differential privacy."""

    clock_resolution: float = 0.0
    """Unit in seconds to whose multiples recorded training times are rounded up; 0 disables rounding."""

    keeps_copies: bool = True
    """True if the run may store a copy of data passed as Python objects."""

    def record_spending(
        self, run: Run, engine: Engine, *, begun: bool = False
    ) -> contextlib.AbstractContextManager[object]:
        """Return a context manager that records the privacy budget spent while it is open, even if the fit fails.

        Args:
            run: Run folder.
            engine: Devices and processes.
            begun: True if the run folder belongs to this fit, so that its ledger already includes all costs.
        """
        return contextlib.nullcontext()

    @abc.abstractmethod
    def read(
        self,
        record: FitRecord,
        start_model: Model | None,
        request: RecipeRequest,
        reporter: Reporter,
        in_memory_data: DataSource | None = None,
    ) -> Dataset:
        """Read the data of a fit from disk or memory.

        Args:
            record: Options of the fit, which name the data.
            start_model: Model with whose modality the data are read, see `start_modality`; None without one.
            request: Requested recipe.
            reporter: Log output, for notes on the data.
            in_memory_data: Data as a Python object; None to read the data from disk.
        """

    @abc.abstractmethod
    def check_data(self, record: FitRecord, dataset: Dataset, reporter: Reporter) -> Dataset:
        """Raise an error if the data do not satisfy this policy or are unusable for a fit.

        Otherwise return the data, whose modality then has the statistics (such as scales) that this policy lets it use.
        """

    def visible_to(self, recipe: str, dataset: Dataset) -> Dataset:
        """Return the dataset that the recipe named `recipe` may inspect while its settings are chosen."""
        return dataset

    @abc.abstractmethod
    def check_recipe(self, record: FitRecord, name: str, recipe: Recipe, start: Run | None, dataset: Dataset) -> None:
        """Raise an error if the recipe violates this policy."""

    @abc.abstractmethod
    def add_fingerprint(self, record: FitRecord, dataset: Dataset, recipe: Recipe) -> FitRecord:
        """Return the fit record, completed by the fingerprint of the data, the held-out split, and notes."""

    @abc.abstractmethod
    def plan(self, plan: FitPlan, request: RecipeRequest) -> FitPlan:
        """Return the plan of a new fit, completed by the modality of the model and the privacy budget."""

    def resume(self, run: Run, plan: FitPlan, spec: ModelSpec) -> FitPlan:
        """Return the plan of a resumed run, with the data statistics that are already stored in its model."""
        return plan

    def check_setup(
        self, record: FitRecord, objective: Objective, network: nn.Module, data: Dataset, engine: Engine
    ) -> None:
        """Raise an error if this policy does not support the training objective, network or data."""
        if record.watched:
            raise UsageError(
                "tracks private training; it requires --epsilon and a recipe with training steps", argument="audit"
            )

    @property
    def privacy_text(self) -> str:
        """Privacy guarantee as a text that is appended to the log line about training."""
        return ""

    @property
    def is_exhausted(self) -> bool:
        """True if no further training step is allowed because the privacy budget is spent."""
        return False

    @abc.abstractmethod
    def begin_session(self, run: Run, steps_taken: int, engine: Engine) -> None:
        """Start a training session after `steps_taken` steps of earlier sessions; the run folder must be locked."""

    @abc.abstractmethod
    def pretrain(self, job: TrainingJob, seed: int, engine: Engine, reporter: Reporter) -> None:
        """Pretrain a new network on statistics of the data that are public or already charged to the privacy ledger.

        The training state of `job` is modified in place. `seed` is the seed of the random numbers.
        """

    @abc.abstractmethod
    def training_inputs(
        self, run: Run, plan: FitPlan, job: TrainingJob, engine: Engine, reporter: Reporter
    ) -> TrainingInputs:
        """Return what a training session needs: batches, gradient estimator, and monitor of the training steps.

        This may take long, for example if training pairs are generated first.
        """

    def closed_form_budget(self) -> tuple[float, Noise]:
        """Return the privacy budget of a closed-form fit as zCDP rho, and the source of its noise."""
        return math.inf, make_noise(None)

    @abc.abstractmethod
    def charge(self, run: Run, expenses: Sequence[DpEvent]) -> None:
        """Charge the privacy cost of a closed-form fit, given as a sequence of DP events, to the ledger of the run."""
