"""Audits by copies and distances, and that they cannot tell a private model from another."""

from collections.abc import Iterator

from feller_papers.claims import Claim, spread_of, verdict
from feller_papers.private_tables.figures import caution, number, read_off, told
from feller_papers.private_tables.methods import AIM, MST, ROWS
from feller_papers.private_tables.setting import NONE, STRONG, Setting
from feller_papers.private_tables.tables import ADULT

SHARES = (0.5, 1.15)
"""Of the share of copies among held-out rows, between which a good model lies."""
NEARER, MEMBERS = (0.48, 0.52), 0.53
"""Share of rows nearer to those learned from, and area under ROC of who was one of them, without an alarm."""
ALARM = 0.6
"""What both are at least of a table that is made of copies."""


def copies(setting: Setting) -> Iterator[Claim]:
    """A low share of copies says that a model is poor, not that it is private."""
    budgets = setting.budgets
    found = [read_off(setting, ADULT, ROWS, budget, number("copies")) for budget in budgets]
    real = read_off(setting, ADULT, ROWS, STRONG, number("copies_held_out"))
    tree = read_off(setting, ADULT, MST, STRONG, number("copies"))
    within = [SHARES[0] * r <= one <= SHARES[1] * r for row in found for one, r in zip(row, real, strict=True)]
    yield Claim(
        f"{ADULT}: the row model repeats rows about as often as held-out people do, with privacy or without",
        "not in the paper; 0.5 to 1.15 of the share of held-out rows",
        f"{', '.join(f'{budget.name} {told(row)}' for budget, row in zip(budgets, found, strict=True))}; held-out rows"
        f" {told(real)}; MST, which is worse, {told(tree)}.{caution(setting)}",
        spread_of(found[0]),
        verdict(all(within)),
    )


def distances(setting: Setting) -> Iterator[Claim]:
    """Nearness to the rows that were learned from."""
    shown = [(ROWS, budget) for budget in setting.budgets] + [(AIM, STRONG)]
    shares, guesses, copied = (
        [read_off(setting, ADULT, way, budget, number(name)) for way, budget in shown]
        for name in ("dcr_share", "membership_auc", "dcr_share_copied")
    )
    again = read_off(setting, ADULT, ROWS, NONE, number("membership_auc_copied"))
    calm = all(NEARER[0] <= one <= NEARER[1] for row in shares for one in row)
    calm = calm and all(one <= MEMBERS for row in guesses for one in row)
    loud = min(copied[0]) >= ALARM and min(again) >= ALARM
    names = [f"{way.name} {budget.name}" for way, budget in shown]
    each = (f"{name} {told(a)}, {told(b)}" for name, a, b in zip(names, shares, guesses, strict=True))
    yield Claim(
        f"{ADULT}: audits by distance tell private models from others as little as from none, so they prove nothing",
        "not in the paper; 0.48 to 0.52 and at most 0.53 for all",
        f"share nearer to rows learned from, area under ROC of membership: {'; '.join(each)}; a table of copies"
        f" {told(copied[0])}, {told(again)}",
        spread_of(shares[0]),
        verdict(calm and loud),
    )
