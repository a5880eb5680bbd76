"""What a training is made of: the job, which is known to fit together, and what its steps take from the data."""

from dataclasses import dataclass, field
from typing import Any

from feller.core.gradient import Gradient
from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.models.spec import Description
from feller.training.loop import Batches, TrainState
from feller.training.objective import Objective
from feller.training.optimizer import Training
from feller.training.trainer import Callback, StepMonitor


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob:
    """A training that is known to fit together, before anything of it is written."""

    record: dict[str, Any]
    """What recipe.json will hold."""
    summary: str
    """What is trained on what, for people."""
    notes: tuple[str, ...]
    """What was converted or chosen, for people."""
    config: Training
    objective: Objective
    description: Description
    state: TrainState
    resume_command: str
    """Command that goes on."""
    data: Dataset | None = None
    """What is learned from; None where the model itself draws it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingInputs:
    """What the steps of one sitting are made of."""

    batches: Batches
    rng: Draws
    gradient: Gradient | None = None
    """How losses become gradients; the mean by default."""
    callbacks: tuple[Callback, ...] = ()
    monitor: StepMonitor = field(default_factory=StepMonitor)
    """Which numbers of a step may be told, and what must not be saved."""
    clock_resolution: float = 0.0
    """Seconds to whose multiples the time of training is rounded up in what is written; 0 writes it as it is."""
    checkpoint_at_each_log: bool = False
    """Save after every logged step, so that a training that fails leaves the last good weights."""
