"""A training that is ready to begin."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from feller.app.reporter import Tell
from feller.core.gradient import Gradient
from feller.models.spec import Description
from feller.training.loop import Batches, Learner, Report, check_finite
from feller.training.objective import Objective
from feller.training.optimizer import Training


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A training that is known to fit together, before anything of it is written."""

    record: dict[str, Any]
    """What recipe.json will hold."""
    summary: str
    """What is trained on what, for people."""
    notes: tuple[str, ...]
    """What was converted or chosen, for people."""
    training: Training
    seed: int
    feed: Callable[[Tell], Batches]
    """Makes what gives each step its examples; it may take a while."""
    objective: Objective
    """What is learned."""
    description: Description
    learner: Learner
    again: str
    """Command that goes on."""
    bound: "Callable[[Prepared, Tell], Prepared]" = lambda ready, tell: ready
    """Returns the same with all that it needs of the data, once the folder may be written to; it may take a while."""
    check: Callable[[Report], float] = check_finite
    """Returns the loss of a step that is logged; refuses one that must not be saved."""
    gradient: Gradient | None = None
    """How losses become gradients; the mean by default."""
    tells_loss: bool = True
    """Whether the loss may be told, with what else is of the rows: how long a step took, and what it noticed."""
    spent: Callable[[], bool] = lambda: False
    """Whether no further step may be taken."""
    open: Callable[[], None] = lambda: None
    """Called before the first step of a sitting, where the folder may be written to."""
    close: Callable[[], None] = lambda: None
    """Called after the last step of a sitting."""
    careful: bool = False
    """Save after every check, so that a training that fails leaves the last good weights."""
