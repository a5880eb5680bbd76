"""What the columns of a table hold where no schema says it: found with noise, and paid for."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from feller.app.workflows.private.privacy_config import Wish
from feller.app.workflows.private.untold import refusal
from feller.core.errors import InputError
from feller.data.loading.raw import FoundTable
from feller.data.tables.clipped_cells import Beyond
from feller.data.tables.kept import Kept
from feller.data.tables.private_schema_search import Charge, Drowned, find_domain
from feller.data.tables.schema import Schema
from feller.privacy.accounting.dp_events import Expense, Gaussian
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.accounting.zcdp import rho_of

COLUMNS = 0.1
"""Share of the budget, in rho, and of delta, that finding columns takes, where no schema says what they are."""
ASKED = 3
"""How often a column is counted for that, at most."""


@dataclass(frozen=True, eq=False)
class Charged:
    """What was paid for columns that no schema described."""

    expenses: tuple[Expense, ...] = ()
    delta: float = 0.0
    """Chance that a word of one row alone was told."""
    kept: tuple[Kept, ...] = ()
    """What becomes of rare words, by the counts that were paid for."""
    beyond: tuple[Beyond, ...] = ()
    """What lies beyond bounds, by the same counts."""


def find_columns(
    wish: Wish, found: FoundTable, data: str, paid: Callable[[Ledger], None] = lambda ledger: None
) -> tuple[Schema, Charged]:
    """Find what the columns of a table hold, with noise.

    Args:
        wish: How private.
        found: The table.
        data: Where it was read.
        paid: Hears the most that it can cost before a row is looked at, and then what it did.

    Raises:
        UsageError: If delta does not suit so many rows.
        InputError: If the noise hides all columns, or all but one; where their kinds are hidden, nothing else is spent.
    """
    n, k = len(found.values), len(found.columns)
    delta = wish.chance(n)
    sigma = math.sqrt(ASKED * k / (2 * COLUMNS * rho_of(wish.most, delta)))
    whole = Gaussian("finding the columns", sigma / math.sqrt(ASKED * k))
    paid(Ledger((whole,), delta, n, COLUMNS * delta))

    def pay(charges: tuple[Charge, ...]) -> Charged:
        spent = tuple(Gaussian(charge.what, charge.sigma) for charge in charges)
        charged = Charged(spent, sum(charge.delta for charge in charges))
        paid(Ledger(charged.expenses, delta, n, charged.delta))
        return charged

    try:
        schema, charges, kept, far = find_domain(found, sigma, COLUMNS * delta, wish.source("columns"))
    except Drowned as drowned:
        pay(drowned.charges)
        raise InputError(refusal(drowned.untold, k, n, sigma, data)) from drowned
    return schema, replace(pay(charges), kept=kept, beyond=far)
