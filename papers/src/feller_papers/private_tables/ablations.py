"""What each part of the row model is worth, by leaving it out."""

from collections.abc import Iterator

from feller.core.rng import Rng
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.private_tables.figures import caution, nats, nll, number, read_off, surprises, told, worth
from feller_papers.private_tables.measured import allowed_share, fitted
from feller_papers.private_tables.methods import COLUMNS, LOOSE, PLAIN, ROWS, SHUFFLED, UNTOLD
from feller_papers.private_tables.setting import NONE, STRONG, WEAK, Setting
from feller_papers.private_tables.tables import ADULT

RAKED = {STRONG: 0.008, WEAK: 0.008}
"""By how much raking must lower TV2: half of what it did for another program, 0.0134 and 0.0141."""
DRAWN = 10_000
"""Rows of which the share is counted that a table may have."""


def raking(setting: Setting) -> Iterator[Claim]:
    """Rows are chosen by noisy counts that were paid for already."""
    for budget, least in RAKED.items():
        if budget not in setting.budgets:
            continue
        with_it, without, value, value_without = (
            read_off(setting, ADULT, ROWS, budget, figure, raked=raked)
            for figure in (number("tv2"), worth)
            for raked in (True, False)
        )
        gains = [b - a for a, b in zip(with_it, without, strict=True)]
        yield Claim(
            f"{ADULT}, {budget.name}: raking to the noisy counts of columns lowers TV2 by {least:g}, for nothing",
            "not in the paper; 0.0134 at epsilon 1 and 0.0141 at 10 in another program",
            f"from {told(without)} to {told(with_it)}; AUC {told(value_without)} and {told(value)}.{caution(setting)}",
            spread_of(gains),
            verdict(min(gains) >= least),
        )


def grammar(setting: Setting) -> Iterator[Claim]:
    """What may not stand in a column is masked out of the loss; the models are tiny, and know no counts."""
    with_it, without = (surprises(setting, ADULT, way, STRONG) for way in (UNTOLD, LOOSE))
    saved = [b - a for a, b in zip(with_it, without, strict=True)]
    valid = [
        allowed_share(fitted(setting, ADULT, LOOSE, STRONG, seed).model, DRAWN, Rng(seed)) for seed in setting.seeds
    ]
    yield Claim(
        f"{ADULT}, {STRONG.name}: masking out of the loss what cannot stand in a column spends less of the budget",
        "no budget is spent on the format (section on the loss of the program); rows are valid",
        f"nats of a held-out row {nats(setting, ADULT, UNTOLD, STRONG)} with the mask,"
        f" {nats(setting, ADULT, LOOSE, STRONG)} without it, where {mean_of([100 * one for one in valid], 3)} % of the"
        " rows are of the table",
        spread_of(saved),
        verdict(min(saved) > 0),
    )


def noisy_counts(setting: Setting) -> Iterator[Claim]:
    """A model begins with what a tenth of the budget tells of single columns."""
    with_it, without = (surprises(setting, ADULT, way, STRONG) for way in (PLAIN, UNTOLD))
    saved = [b - a for a, b in zip(with_it, without, strict=True)]
    tv, tv_without = (read_off(setting, ADULT, way, STRONG, number("tv2")) for way in (PLAIN, UNTOLD))
    yield Claim(
        f"{ADULT}, {STRONG.name}: beginning with noisy counts of columns is worth its share of the budget",
        "not in the paper",
        f"tiny models: nats of a held-out row {nats(setting, ADULT, PLAIN, STRONG)} with them,"
        f" {nats(setting, ADULT, UNTOLD, STRONG)} without; TV2 {told(tv)}, raked, and {told(tv_without)}",
        spread_of(saved),
        verdict(min(saved) > 0),
    )


def counts_of_pairs(setting: Setting) -> Iterator[Claim]:
    """Half the budget is spent on AIM, whose law a model is taught before it sees a row."""
    for budget in (STRONG, WEAK):
        if budget not in setting.budgets:
            continue
        tv, value, surprise = (
            [read_off(setting, ADULT, way, budget, figure) for way in (ROWS, COLUMNS)]
            for figure in (number("tv2"), worth, nll)
        )
        gains = [b - a for a, b in zip(*tv, strict=True)]
        yield Claim(
            f"{ADULT}, {budget.name}: beginning with the law of noisy counts of pairs is worth half of the budget",
            "not in the paper",
            f"TV2 {told(tv[0])} with them, {told(tv[1])} with counts of single columns alone; AUC {told(value[0])},"
            f" {told(value[1])}; nats of a held-out row {told(surprise[0], 4)}, {told(surprise[1], 4)}",
            spread_of(gains),
            verdict(min(gains) > 0),
        )


def any_order(setting: Setting) -> Iterator[Claim]:
    """Learning all orders at once, so that anything can be given, against the order of the table alone."""
    costs = {}
    for budget in (STRONG, NONE):
        one, every = (surprises(setting, ADULT, way, budget) for way in (COLUMNS, SHUFFLED))
        costs[budget] = [b - a for a, b in zip(one, every, strict=True)]
    tv = [told(read_off(setting, ADULT, way, STRONG, number("tv2"))) for way in (COLUMNS, SHUFFLED)]
    value = [told(read_off(setting, ADULT, way, STRONG, worth)) for way in (COLUMNS, SHUFFLED)]
    more = [a - b for a, b in zip(costs[STRONG], costs[NONE], strict=True)]
    yield Claim(
        f"{ADULT}: learning every order costs more with privacy than without",
        "columns are shuffled by default in its program, and not in its example",
        f"{told(costs[STRONG])} nats of a held-out row at {STRONG.name}, {told(costs[NONE])} with {NONE.name}; TV2 at"
        f" {STRONG.name} {tv[0]} in one order, {tv[1]} in all; AUC {value[0]}, {value[1]}.{caution(setting)}",
        spread_of(more),
        verdict(min(costs[STRONG]) > 0 and min(more) > 0),
    )
