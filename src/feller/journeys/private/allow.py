"""What a model that is found at once may cost, before a row is looked at."""

from feller.at_once import AtOnce
from feller.data.modality import Dataset
from feller.errors import UsageError
from feller.journeys.private.guarantee import Allowance
from feller.journeys.private.guard import Charged, Wish
from feller.model import Model
from feller.paths import Graphical
from feller.privacy.ledger import Ledger
from feller.recipes import Recipe
from feller.train.optimiser import Training


def check_at_once(recipe: Recipe, older: Model | None) -> None:
    """Refuse what means something to training alone.

    Raises:
        UsageError: Then.
    """
    at_once = isinstance(recipe.objective, AtOnce)
    if at_once and recipe.train != Training():
        raise UsageError(
            "this recipe looks at its rows once and takes no steps; leave --steps, --minutes and --train.* out"
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
        UsageError: If epsilon or delta do not suit so many rows, or the noise of steps is asked for.
    """
    if wish.noise is not None:
        raise UsageError("this recipe takes no steps to add --noise to; give --epsilon instead")
    n = len(rows)
    ledger = Ledger(charged.expenses, wish.chance(n), n, charged.delta)
    rho = objective.afford(wish.most, ledger)
    return ledger, Allowance(epsilon=wish.most, delta=ledger.delta, n=n, rho=rho, unsafe_seed=wish.unsafe_seed)
