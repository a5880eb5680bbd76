"""Audits by copies and distances, which do not detect missing privacy."""

from collections.abc import Iterator

from feller_papers.claims import Claim, spread_of, verdict
from feller_papers.private_tables.figures import format_mean, metric_by_name, metric_values, small_run_note
from feller_papers.private_tables.methods import AIM, MST, ROW_MODEL
from feller_papers.private_tables.setting import NONE, STRONG, Setting
from feller_papers.private_tables.tables import ADULT

COPY_RATIOS = (0.5, 1.15)
"""Allowed fraction of copies, relative to that of held-out rows."""
DCR_RANGE, MAX_MEMBERSHIP_AUC = (0.48, 0.52), 0.53
"""Range of the fraction of samples nearer to training rows (DCR share), and largest membership AUC, of a safe audit."""
MIN_COPIED = 0.6
"""Smallest DCR share and membership AUC for copies of training rows."""


def copies(setting: Setting) -> Iterator[Claim]:
    """Fraction of samples that are copies; few copies are a sign of a poor model, not of privacy."""
    budgets = setting.budgets
    rows = [metric_values(setting, ADULT, ROW_MODEL, budget, metric_by_name("copies")) for budget in budgets]
    held_out = metric_values(setting, ADULT, ROW_MODEL, STRONG, metric_by_name("copies_held_out"))
    mst = metric_values(setting, ADULT, MST, STRONG, metric_by_name("copies"))
    low, high = COPY_RATIOS
    within = [low * real <= value <= high * real for row in rows for value, real in zip(row, held_out, strict=True)]
    shown = (f"{budget.name} {format_mean(row)}" for budget, row in zip(budgets, rows, strict=True))
    yield Claim(
        f"{ADULT}: the row model repeats rows about as often as held-out people do, with privacy or without",
        "not in the paper; 0.5 to 1.15 of the share of held-out rows",
        f"{', '.join(shown)}; held-out rows {format_mean(held_out)};"
        f" MST, which is worse, {format_mean(mst)}.{small_run_note(setting)}",
        spread_of(rows[0]),
        verdict(all(within)),
    )


def distances(setting: Setting) -> Iterator[Claim]:
    """Distance to closest training record (DCR), and membership inference from it."""
    runs = [(ROW_MODEL, budget) for budget in setting.budgets] + [(AIM, STRONG)]
    dcr, membership, dcr_copied = (
        [metric_values(setting, ADULT, method, budget, metric_by_name(name)) for method, budget in runs]
        for name in ("dcr_share", "membership_auc", "dcr_share_copied")
    )
    membership_copied = metric_values(setting, ADULT, ROW_MODEL, NONE, metric_by_name("membership_auc_copied"))
    is_safe = all(DCR_RANGE[0] <= value <= DCR_RANGE[1] for row in dcr for value in row)
    is_safe = is_safe and all(value <= MAX_MEMBERSHIP_AUC for row in membership for value in row)
    detects_copies = min(dcr_copied[0]) >= MIN_COPIED and min(membership_copied) >= MIN_COPIED
    names = [f"{method.name} {budget.name}" for method, budget in runs]
    shown = (f"{name} {format_mean(a)}, {format_mean(b)}" for name, a, b in zip(names, dcr, membership, strict=True))
    yield Claim(
        f"{ADULT}: audits by distance tell private models from others as little as from none, so they prove nothing",
        "not in the paper; 0.48 to 0.52 and at most 0.53 for all",
        f"share nearer to rows learned from, area under ROC of membership: {'; '.join(shown)}; a table of copies"
        f" {format_mean(dcr_copied[0])}, {format_mean(membership_copied)}",
        spread_of(dcr[0]),
        verdict(is_safe and detects_copies),
    )
