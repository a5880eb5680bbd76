"""What a model that is found at once may cost, before a row is looked at."""

from feller.app.workflows.private.columns import Charged
from feller.app.workflows.private.guarantee import Allowance
from feller.app.workflows.private.privacy_config import Wish
from feller.app.workflows.private.private_statistics import NOT_PUBLIC
from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.tables.mixed import as_table
from feller.data.tables.modality import Table
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.paths import Graphical
from feller.privacy.accounting.ledger import Ledger
from feller.training.objectives.one_shot import AtOnce
from feller.training.optimizer import Training


def check_at_once(recipe: Recipe, older: Model | None, watched: int = 0) -> None:
    """Refuse what means something to training alone.

    Args:
        recipe: That was chosen.
        older: Model to start from.
        watched: Rows of which account is to be kept, step by step.

    Raises:
        UsageError: Then.
    """
    at_once = isinstance(recipe.objective, AtOnce)
    if at_once and recipe.train != Training():
        raise UsageError(
            "this recipe looks at its rows once and takes no steps; leave --steps, --minutes and --train.* out"
        )
    if at_once and watched:
        raise UsageError(
            "this recipe takes no steps to keep account of; leave --audit out: `feller audit` tells what rows gave away"
        )
    if older is not None and (at_once or isinstance(older.description.path, Graphical)):
        raise UsageError(
            "what is found at once starts from no model, and no training starts from it; leave --start-from out"
        )


def allow(wish: Wish, objective: AtOnce, rows: Dataset, charged: Charged) -> tuple[Ledger, Allowance]:
    """Plan what it may cost: all that finding the columns left.

    Args:
        wish: How private.
        objective: What is found.
        rows: What it is found of; their number alone is looked at.
        charged: What finding the columns cost.

    Raises:
        UsageError: If epsilon or delta do not suit so many rows, the noise of steps is asked for, or the model would
            hold what nobody pays for: the scale of numbers, or how many rows are of each class.
    """
    kind = rows.modality
    if not isinstance(as_table(rows).modality, Table | Images):
        raise UsageError(NOT_PUBLIC.format(kind.called))
    if kind.conditions:
        raise UsageError(
            f"this recipe would count the rows of each {next(iter(kind.conditions))} without noise; ask for it by"
            " --target, or take another recipe"
        )
    if wish.noise is not None:
        raise UsageError("this recipe takes no steps to add --noise to; give --epsilon instead")
    n = len(rows)
    ledger = Ledger(charged.expenses, wish.chance(n), n, charged.delta)
    rho = objective.afford(wish.most, ledger)
    return ledger, Allowance(epsilon=wish.most, delta=ledger.delta, n=n, rho=rho, unsafe_seed=wish.unsafe_seed)
