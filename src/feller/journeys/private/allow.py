"""What counts of rows may cost, and whether that is enough, before a row is looked at."""

from feller.data.modality import Dataset
from feller.errors import UsageError
from feller.journeys.private.guarantee import Allowance
from feller.journeys.private.guard import Charged, Wish
from feller.marginals.counting import SHARES, Counting
from feller.model import Model
from feller.paths import Graphical
from feller.privacy.accountant import rho
from feller.privacy.concentrated import rho_of
from feller.privacy.ledger import Ledger
from feller.privacy.one_way import SHARE, check_budget
from feller.recipes import Recipe
from feller.train.optimiser import Training

SPARE = 1e-9
"""Share of the budget that is left, so that no rounding makes it more than was asked for."""


def check_counts(recipe: Recipe, older: Model | None) -> None:
    """Refuse what means something to training alone.

    Raises:
        UsageError: Then.
    """
    counts = isinstance(recipe.objective, Counting)
    if counts and recipe.train != Training():
        raise UsageError(
            "this recipe counts rows once and takes no steps; leave --steps, --minutes and --train.* out, and see"
            " --objective.room"
        )
    if older is not None and (counts or isinstance(older.description.path, Graphical)):
        raise UsageError("counts start from no model, and no training starts from them; leave --start-from out")


def allow(wish: Wish, counting: Counting, rows: Dataset, charged: Charged) -> tuple[Ledger, Allowance]:
    """Plan what the counts may cost: all that finding the columns left.

    Args:
        wish: How private.
        counting: What is counted.
        rows: What is counted of; their number alone is looked at.
        charged: What finding the columns cost.

    Raises:
        UsageError: If epsilon or delta do not suit so many rows, or the noise of steps is asked for.
    """
    if wish.noise is not None:
        raise UsageError("this recipe counts rows and takes no steps to add --noise to; give --epsilon instead")
    n = len(rows)
    delta = wish.chance(n)
    ledger = Ledger(charged.expenses, delta, n, charged.delta)
    whole = rho_of(wish.most, ledger.open)
    left = (whole - sum(map(rho, charged.expenses))) * (1 - SPARE)
    check_budget(wish.most, delta, counting.space.counts, n, max(SHARES[counting.method] * left / whole, SHARE))
    return ledger, Allowance(epsilon=wish.most, delta=delta, n=n, rho=left, unsafe_seed=wish.unsafe_seed)
