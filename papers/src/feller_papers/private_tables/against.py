"""The paper's claim: a language model over rows against methods of noisy marginals."""

from collections.abc import Iterator

from feller_papers.claims import Claim, spread_of, untestable, verdict
from feller_papers.private_tables.figures import (
    Metric,
    format_mean,
    format_nll,
    metric_by_name,
    metric_values,
    nll,
    nll_values,
    small_run_note,
    utility,
    utility_name,
)
from feller_papers.private_tables.methods import AIM, AIM_TRIPLES, INDEPENDENT, MARGINAL_METHODS, MST, ROW_MODEL
from feller_papers.private_tables.setting import PAPER, STRONG, Budget, Setting
from feller_papers.private_tables.tables import ADULT, GERMAN, SMALL_ADULT, available_tables

PAPER_CLAIM = "competitive, also at small scales that favour marginals (abstract)"
AUC_MARGIN, NLL_MARGIN = 0.01, 0.05
"""Allowed loss of AUC and excess of negative log-likelihood of a competitive method."""


def competitive(setting: Setting) -> Iterator[Claim]:
    """The row model against AIM, for each table and budget."""
    for name in available_tables(setting):
        for budget in setting.budgets:
            yield _compare_to_aim(setting, name, budget)


def _compare_to_aim(setting: Setting, name: str, budget: Budget) -> Claim:
    utilities, nlls = (
        [metric_values(setting, name, method, budget, metric) for method in (ROW_MODEL, AIM)]
        for metric in (utility, nll)
    )
    utility_loss = [aim - row for row, aim in zip(*utilities, strict=True)]
    nll_excess = [row - aim for row, aim in zip(*nlls, strict=True)]
    label = utility_name(setting, name, ROW_MODEL, budget)
    methods = (ROW_MODEL, *MARGINAL_METHODS)

    def format_metric(metric: Metric) -> str:
        means = (format_mean(metric_values(setting, name, method, budget, metric)) for method in methods)
        return ", ".join(f"{method.name} {mean}" for method, mean in zip(methods, means, strict=True))

    nats = ", ".join(f"{method.name} {format_nll(setting, name, method, budget)}" for method in methods)
    return Claim(
        f"{name}, {budget.name}: a language model over rows is competitive with AIM",
        PAPER_CLAIM,
        f"{label} {format_metric(utility)}; nats of a held-out row {nats}; TV2 {format_metric(metric_by_name('tv2'))}."
        f" {label} lower by {format_mean(utility_loss)}, {format_mean(nll_excess)} nats more."
        f" Wanted: at most {AUC_MARGIN:g} and {NLL_MARGIN:g}.{small_run_note(setting)}",
        spread_of(utility_loss),
        verdict(max(utility_loss) <= AUC_MARGIN and max(nll_excess) <= NLL_MARGIN),
    )


def few_rows(setting: Setting) -> Iterator[Claim]:
    """On small tables, noise harms DP-SGD more than marginals."""
    for name in (SMALL_ADULT, GERMAN):
        claim = f"{name}, {STRONG.name}: a small table favours marginals, in TV2 and in what rows are worth"
        if name == GERMAN and name not in available_tables(setting):
            yield untestable(claim, PAPER_CLAIM, "needs german_credit.csv.gz in the folder of --data")
            continue
        methods = (ROW_MODEL, *MARGINAL_METHODS, INDEPENDENT)
        tv2, utilities = (
            {method: metric_values(setting, name, method, STRONG, metric) for method in methods}
            for metric in (metric_by_name("tv2"), utility)
        )
        tv2_gaps = [min(tv2[method][i] for method in MARGINAL_METHODS) - own for i, own in enumerate(tv2[ROW_MODEL])]
        utility_gaps = [
            max(utilities[method][i] for method in MARGINAL_METHODS) - own for i, own in enumerate(utilities[ROW_MODEL])
        ]
        label = utility_name(setting, name, ROW_MODEL, STRONG)
        yield Claim(
            claim,
            PAPER_CLAIM,
            f"TV2 {', '.join(f'{method.name} {format_mean(tv2[method])}' for method in methods)}; {label}"
            f" {', '.join(f'{method.name} {format_mean(utilities[method])}' for method in methods)}."
            f"{small_run_note(setting)}",
            spread_of(tv2_gaps),
            verdict(max(tv2_gaps) < 0 < min(utility_gaps)),
        )


def protocol(setting: Setting) -> Iterator[Claim]:
    """The comparison of the paper's program: negative log-likelihood against AIM with marginals of 1 to 3 columns."""
    claim = (
        f"{ADULT}, epsilon {PAPER.epsilon:g} at delta {PAPER.delta:g}: held-out rows surprise the row model less than"
        " AIM of all tables of 1 to 3 columns with at most 100,000 cells"
    )
    if not setting.is_full:
        yield untestable(claim, PAPER_CLAIM, "takes minutes; run without --quick")
        return
    ours, triples = (nll_values(setting, ADULT, method, PAPER) for method in (ROW_MODEL, AIM_TRIPLES))
    nll_excess = [a - b for a, b in zip(ours, triples, strict=True)]
    yield Claim(
        claim,
        "NLL of AIM with 80 MB; no figure at hand",
        f"nats of a row {format_nll(setting, ADULT, ROW_MODEL, PAPER)}; AIM of triples in 8 MiB"
        f" {format_nll(setting, ADULT, AIM_TRIPLES, PAPER)},"
        f" of pairs in 1 MiB {format_nll(setting, ADULT, AIM, PAPER)};"
        f" MST {format_nll(setting, ADULT, MST, PAPER)}; {format_mean(nll_excess)} nats more than AIM of triples",
        spread_of(nll_excess),
        verdict(max(nll_excess) < 0),
    )
