"""Verdict of a privacy audit, and its report page."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from feller.app.workflows.auditing import plan_calculator
from feller.app.workflows.auditing.attacks import AttackResults
from feller.app.workflows.auditing.audit_target import AuditTarget
from feller.app.workflows.auditing.fisher_leakage import RowLeakage
from feller.app.workflows.auditing.retraining_attacks import candidates, flags
from feller.app.workflows.private import guarantee_text
from feller.evaluation.attacks.attack_scores import ATTACKS, CANARY_ATTACKS
from feller.evaluation.attacks.disclosure_risks import MIN_UNSEEN, RISKS
from feller.evaluation.attacks.risk import LOW, MAX_UNCERTAIN, UNMEASURED
from feller.evaluation.number_format import format_number, format_percent, is_number, sentence
from feller.evaluation.report.embedded_picture import ReportPicture
from feller.evaluation.report.leakage_plots import plot_error_bounds, plot_guesses
from feller.evaluation.report.report_page import ReportTable, RunReport
from feller.evaluation.report.verdict import Verdict
from feller.privacy.accounting.ledger import Ledger

SUSPECT = 0.55
"""ROC AUC of membership inference above which a model without differential privacy counts as leaking rows."""
GUESSING = 0.5
"""ROC AUC of guessing."""
WEAK = 0.9
"""Upper bound on the probability of guessing a value of prior probability 0.1, above which the verdict calls a
guarantee practically meaningless."""
COPY_MARGIN = 0.01
"""Excess of the fraction of copies among samples over that among held-out rows, above which a model leaks rows."""
ALARM, HOLDS, LOOSE = "Alarm: the guarantee does not hold", "Guarantee holds", "Guarantee bounds next to nothing"
GUARANTEED = "Privacy guarantee"
"""Heading of the page that may be given away."""
LEAKS, OPEN = "No guarantee, and training data leak", "No guarantee"
"""Verdicts of an audit of a run without differential privacy."""


def audit_verdict(ledger: Ledger | None, numbers: Mapping[str, Any]) -> Verdict:
    """Return the verdict of an audit, with the names of the metrics on which it is based.

    For tables, these are the measured risks of singling out, linkability and inference, with levels next to the grade,
    and membership attacks whose interval lies above the area of guessing.
    """
    risks = tuple(
        f"{name}_risk"
        for name in RISKS
        if is_number(numbers.get(f"{name}_risk")) and numbers.get(f"{name}_level") != UNMEASURED
    )
    detected = tuple(_detected(numbers))
    shown = (*risks, *detected) or _strongest(numbers)
    doubts = tuple(f"{label}: {level}" for name, label in RISKS.items() if (level := numbers.get(f"{name}_level")))
    if ledger is None:
        leaks = tuple(_leaks(numbers))
        metrics = (*(name for name in leaks if name not in risks), *risks) if risks else leaks or shown
        return Verdict(LEAKS if leaks else OPEN, metrics, doubts=doubts)
    contradicted = tuple(_contradicted_metrics(numbers))
    if contradicted:
        return Verdict(ALARM, (*contradicted, *risks), doubts=doubts)
    grade = LOOSE if (numbers.get("guess_0.1") or 0.0) > WEAK else HOLDS
    return Verdict(grade, ("epsilon", "delta", "guess_0.1", *shown), doubts=doubts)


def _contradicted_metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of measured metrics that exceed what the privacy ledger allows, and of their bounds."""
    if metrics.get("noise_held", 1.0) < metrics.get("noise_held_least", 0.0):
        yield from ("noise_held", "noise_held_least")
    yield from (name for name in ("rebuilt_below", "inversion_below") if metrics.get(name))
    epsilons = {f"{attack}_epsilon": metrics.get(f"{attack}_epsilon") or 0.0 for attack in ATTACKS}
    if max(epsilons.values()) > metrics["epsilon"]:
        yield from (max(epsilons, key=lambda name: epsilons[name]), "epsilon")
    if metrics.get("one_run_violation"):
        yield from ("one_run_right", "one_run_epsilon")
    if (metrics.get("candidates_least") or 0.0) > (metrics.get("candidates_bound") or 1.0):
        yield from ("candidates_right", "candidates_bound")


def _leaks(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of metrics that show leakage, for a model trained without privacy."""
    error, mean_row_error = metrics.get("rebuilt_error"), metrics.get("spread")
    if error is not None and mean_row_error is not None and error < mean_row_error:
        yield "rebuilt_error"
    for name in ("copies", "passages"):
        fraction, held_out_fraction = metrics.get(name), metrics.get(f"{name}_held_out") or 0.0
        if fraction is not None and fraction > held_out_fraction + COPY_MARGIN:
            yield name
    levels = {name: metrics.get(f"{name}_level", UNMEASURED) for name in RISKS}
    yield from (f"{name}_risk" for name, level in levels.items() if level not in (LOW, UNMEASURED))
    detected = tuple(_detected(metrics))
    yield from detected
    if not detected and all(level == UNMEASURED for level in levels.values()):
        yield from (name for name in _strongest(metrics) if metrics[name] > SUSPECT)


def _detected(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the areas under the ROC curve of membership attacks whose 95 % interval lies above that of guessing.

    Canary attacks are left out.
    """
    for attack in ATTACKS:
        low = metrics.get(f"{attack}_auc_low")
        if attack not in CANARY_ATTACKS and is_number(low) and low > GUESSING:
            yield f"{attack}_auc"


def _strongest(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metric name of the strongest membership attack, in a tuple that is empty if no attack was run.

    The strongest attack has the largest ROC AUC. Canary attacks are left out.
    """
    aucs = {f"{attack}_auc": metrics.get(f"{attack}_auc") for attack in ATTACKS if attack not in CANARY_ATTACKS}
    measured = {name: auc for name, auc in aucs.items() if is_number(auc)}
    return (max(measured, key=lambda name: measured[name]),) if measured else ()


NOT_PRIVATE_TEXT = (
    "This model was trained WITHOUT privacy: nothing bounds what it reveals about a {unit}. Attacks without success"
    " prove nothing."
)
CERTAIN = 0.995
"""Value from which a bound on the guessing probability is shown as "1.00 (no bound)", because it is close to 1."""
SEEDED = "the noise comes from a recorded seed: NOTHING is protected from anyone who knows it"


def audit_report(
    target: AuditTarget,
    numbers: Mapping[str, Any],
    results: AttackResults,
    leakage: RowLeakage | None = None,
    max_rows: int = 10,
) -> RunReport:
    """Assemble the report page of an audit."""
    run, record, ledger, modality = target.run, target.record, target.ledger, target.model.spec.modality
    explanations = [] if ledger is None else plan_calculator.explain(dict(numbers), target.unit)
    figures: list[tuple[str, ReportPicture]] = []
    if leakage is not None:
        caption = "Lower bound of an unbiased attacker's error for each row"
        figures.append((caption, plot_error_bounds(leakage.min_errors, leakage.renyi_bound, leakage.mean_row_error)))
        if leakage.picture is not None:
            figures.append(
                ("Tracked rows: most exposed above, least exposed below (unbiased error bound)", leakage.picture)
            )
    figures += results.pictures
    if results.guesses:
        figures.append(("Accuracy of guessing each column", plot_guesses(results.guesses)))
    verdict = audit_verdict(ledger, numbers)
    is_seeded = record.provenance.private is not None and record.provenance.private.unsafe_seed is not None
    unmeasured = ", ".join(label.lower() for name, label in RISKS.items() if numbers.get(f"{name}_level") == UNMEASURED)
    few = len(target.held_out) < MIN_UNSEEN
    cautions = (
        *((SEEDED,) if is_seeded else ()),
        *((f"not measured: {unmeasured}; {_need(target)}",) if unmeasured and few else ()),
        *_limits(numbers),
    )
    return RunReport(
        title=f"{record.data}, recipe {record.provenance.recipe}: what the run reveals about single {target.unit}s",
        command=shlex.join(["feller", "audit", str(run.path), *flags(numbers)]),
        verdict=replace(verdict, cautions=cautions),
        compared=" ".join(sentence(text) for text in explanations),
        numbers=numbers,
        guarantee=NOT_PRIVATE_TEXT.format(unit=target.unit)
        if ledger is None
        else guarantee_text.sentence(ledger, record, modality),
        expenses=(*ledger.describe_events(target.unit), *target.earlier_spending) if ledger else (),
        caveat=guarantee_text.caveat(ledger),
        notes=results.notes,
        row_metrics=frozenset(numbers) - guarantee_metrics(numbers),
        curve=None,
        pictures=figures,
        heading="What an attacker could guess",
        grids=[
            *([_attacks(numbers, target.unit)] if any(f"{attack}_auc" in numbers for attack in ATTACKS) else []),
            *([_reconstruction_grid(numbers)] if "rebuilt_error" in numbers else []),
            *candidates(numbers),
            *([_columns(results, target.unit)] if results.guesses else []),
            *([_exposed_rows_grid(leakage.most_exposed(max_rows))] if leakage is not None else []),
            *results.grids,
        ],
    )


def guarantee_metrics(numbers: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of the metrics that follow from the privacy ledger alone."""
    names = ("delta", "rows_protected", "protected_unit", "mse_bound", "blind")
    return frozenset(
        name for name in numbers if name in names or name == "epsilon" or name.startswith(("epsilon_", "guess_"))
    )


PUBLIC_NOTE = (
    "Nothing on this page is computed from the data without noise: all numbers follow from the mechanism and its noise,"
    " and hold for every attacker, so that they have no confidence intervals."
    " The owner of the data has another page with the results of attacks."
)


def public_report(report: RunReport, facts: str | None) -> RunReport:
    """Return the part of the report of a private run that may be given away: the guarantee and its bounds.

    The noise must not come from a recorded seed.

    Args:
        report: Report for the owner of the data.
        facts: Columns of the table and their values; None if the data are not a table.
    """
    kept = guarantee_metrics(report.numbers)
    numbers = {name: value for name, value in report.numbers.items() if name in kept}
    return RunReport(
        title=report.title,
        command=report.command,
        made=report.made,
        verdict=Verdict(GUARANTEED, ("epsilon", "delta", "guess_0.1")),
        compared=report.compared,
        numbers=numbers,
        guarantee=report.guarantee,
        expenses=report.expenses,
        notes=(PUBLIC_NOTE, *([] if facts is None else [f"The model discloses its schema: {facts}"])),
        curve=None,
    )


def _need(target: AuditTarget) -> str:
    return (
        f"needs {MIN_UNSEEN} held-out {target.unit}s, and {len(target.held_out):,} are held out. Their absence is no"
        " all-clear"
    )


def _limits(numbers: Mapping[str, Any]) -> Iterator[str]:
    """Yield a caution for each risk whose interval excludes neither 0 nor a large value."""
    for name, label in RISKS.items():
        if needed := numbers.get(f"{name}_needed"):
            yield (
                f"{label.lower()} is not measured: with {numbers[f'{name}_guesses']:,.0f} attacks, neither 0 nor a risk"
                f" above {format_percent(MAX_UNCERTAIN)} is excluded; about {needed:,.0f} attacks are needed, which"
                " takes more held-out data (--held-out)"
            )


def _attacks(metrics: Mapping[str, Any], unit: str) -> ReportTable:
    """Return the table of membership attacks; bounds on epsilon are shown only next to a stated epsilon."""
    has_epsilon, rows = metrics.get("epsilon") is not None, []
    for attack, label in ATTACKS.items():
        if f"{attack}_auc" in metrics:
            ends = [metrics.get(f"{attack}_auc_{end}") for end in ("low", "high")]
            interval = " to ".join(map(format_number, filter(is_number, ends))) or None
            row = (label, metrics[f"{attack}_auc"], interval, metrics[f"{attack}_caught"])
            rows.append((*row, metrics[f"{attack}_epsilon"], metrics["epsilon"]) if has_epsilon else row)
    bounds = " A lower bound above the stated epsilon means that the guarantee does not hold." if has_epsilon else ""
    return ReportTable(
        "Membership attacks",
        f"Training {unit}s against held-out {unit}s; random guessing gives an area of 0.5 and a TPR of 0.01." + bounds,
        (
            *("attack", "area under ROC", "95 % interval", "TPR at 1 % FPR"),
            *(("epsilon, lower bound", "epsilon, stated") if has_epsilon else ()),
        ),
        rows,
    )


def _reconstruction_grid(metrics: Mapping[str, Any]) -> ReportTable:
    is_unbiased = 2 * metrics.get("rebuilt_steady", 0) > metrics["rebuilt_rows"]
    min_error = metrics.get("fisher_median") if is_unbiased else None
    bound_with_prior = metrics.get("fisher_with_prior")
    return ReportTable(
        "Rows reconstructed from the weights",
        "By an attacker who knows all other rows: at the optimum, the gradients sum to zero, so the other gradients"
        " determine the row, exactly if there is no noise. With much noise the estimates are biased, and only the mean"
        " error over many rows is bounded. Mean squared errors per coordinate.",
        ("attack", "error", "lower bound", "always the mean row"),
        [
            ("unclipped, median row", metrics["rebuilt_error"], min_error, metrics["spread"]),
            ("clipped to [0, 1], all rows", metrics["rebuilt_error_known"], bound_with_prior, metrics["spread"]),
        ],
    )


def _exposed_rows_grid(rows: Sequence[tuple[int, float, float]]) -> ReportTable:
    return ReportTable(
        "Most exposed rows",
        "Lower bounds of the mean squared error of an unbiased attacker who knows all other rows, among the tracked"
        " rows. The last column divides it by the error of the mean row; above 1, the mean row is a better estimate."
        " Rows are counted from 0 in the training set, which differs from lines of the file if rows were held out.",
        ("row", "least error", "over that of the mean row"),
        rows,
    )


def _columns(results: AttackResults, unit: str) -> ReportTable:
    return ReportTable(
        f"Cells guessed from the rest of the {unit}",
        "Without a model, the best guess is the most frequent value. Higher accuracy on unseen data comes from"
        f" general knowledge of the population; the last column bounds the accuracy on training {unit}s.",
        ("column", "most frequent value", f"unseen {unit}s", f"training {unit}s", f"training {unit}s, bound"),
        [(guess.name, guess.prior, guess.others, guess.members, _bound(guess.bound)) for guess in results.guesses],
    )


def _bound(bound: float | None) -> float | str | None:
    """Return a bound for display: its value, or a text if it is close to 1."""
    return "1.00 (no bound)" if bound is not None and bound >= CERTAIN else bound
