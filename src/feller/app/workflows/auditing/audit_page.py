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
from feller.evaluation.number_format import is_number, sentence
from feller.evaluation.report.embedded_picture import ReportPicture
from feller.evaluation.report.leakage_plots import plot_error_bounds, plot_guesses
from feller.evaluation.report.report_page import ReportTable, RunReport
from feller.evaluation.report.verdict import Verdict
from feller.privacy.accounting.ledger import Ledger

SUSPECT = 0.55
"""ROC AUC of membership inference above which rows count as leaked."""
WEAK = 0.9
"""Upper bound on the probability of guessing a value (prior 0.1) above which a guarantee counts as practically
meaningless."""
COPY_MARGIN = 0.01
"""Difference in the fraction of copies between samples and held-out rows above which a model counts as copying."""
ALARM, HOLDS, LOOSE = "Alarm: the guarantee does not hold", "Guarantee holds", "Guarantee bounds next to nothing"
LEAKS, OPEN = "No guarantee, and rows leak", "No guarantee"
"""Verdicts of an audit of a run without differential privacy."""


def audit_verdict(ledger: Ledger | None, numbers: Mapping[str, Any]) -> Verdict:
    """Return the verdict of an audit, and the metrics on which the verdict is based."""
    worst = _strongest(numbers)
    if ledger is None:
        leaks = tuple(_leaks(numbers))
        return Verdict(LEAKS if leaks else OPEN, leaks or worst)
    broken = tuple(_contradicted_metrics(numbers))
    if broken:
        return Verdict(ALARM, broken)
    grade = LOOSE if (numbers.get("guess_0.1") or 0.0) > WEAK else HOLDS
    return Verdict(grade, ("epsilon", "delta", "guess_0.1", *worst))


def _contradicted_metrics(numbers: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the metrics that contradict the privacy ledger."""
    if numbers.get("noise_held", 1.0) < numbers.get("noise_held_least", 0.0):
        yield from ("noise_held", "noise_held_least")
    yield from (name for name in ("rebuilt_below", "inversion_below") if numbers.get(name))
    proven = {f"{way}_epsilon": numbers.get(f"{way}_epsilon") or 0.0 for way in ATTACKS}
    if max(proven.values()) > numbers["epsilon"]:
        yield from (max(proven, key=lambda name: proven[name]), "epsilon")
    if (numbers.get("candidates_least") or 0.0) > (numbers.get("candidates_bound") or 1.0):
        yield from ("candidates_right", "candidates_bound")


def _leaks(numbers: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the metrics that show leakage from a model trained without privacy."""
    error, spread = numbers.get("rebuilt_error"), numbers.get("spread")
    if error is not None and spread is not None and error < spread:
        yield "rebuilt_error"
    for name in ("copies", "passages"):
        fraction, others = numbers.get(name), numbers.get(f"{name}_held_out") or 0.0
        if fraction is not None and fraction > others + COPY_MARGIN:
            yield name
    yield from (name for name in _strongest(numbers) if numbers[name] > SUSPECT)


def _strongest(numbers: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the name of the largest membership ROC AUC, without canary attacks; empty if no attack was run."""
    areas = {f"{way}_auc": numbers.get(f"{way}_auc") for way in ATTACKS if way not in CANARY_ATTACKS}
    measured = {name: area for name, area in areas.items() if is_number(area)}
    return (max(measured, key=lambda name: measured[name]),) if measured else ()


NOT_PRIVATE_TEXT = (
    "This model was trained WITHOUT privacy: nothing bounds what it reveals about single rows. Attacks without success"
    " prove nothing."
)
CERTAIN = 0.995
"""Minimum bound on the guessing probability that is shown as the text "1.00 (no bound)", because it is close to 1."""
SEEDED = "the noise comes from a recorded seed: NOTHING is protected from anyone who knows it"


def audit_report(
    target: AuditTarget,
    numbers: Mapping[str, Any],
    results: AttackResults,
    leakage: RowLeakage | None = None,
    max_rows: int = 10,
) -> RunReport:
    """Assemble the report page of an audit."""
    run, record, ledger, kind = target.run, target.record, target.ledger, target.model.spec.modality
    words = [] if ledger is None else plan_calculator.explain(dict(numbers))
    pictures: list[tuple[str, ReportPicture]] = []
    if leakage is not None:
        caption = "Lower bound of an unbiased attacker's error for each row"
        pictures.append((caption, plot_error_bounds(leakage.min_errors, leakage.renyi_bound, leakage.mean_row_error)))
        if leakage.picture is not None:
            pictures.append(
                ("Tracked rows: most exposed above, least exposed below (unbiased error bound)", leakage.picture)
            )
    pictures += results.pictures
    if results.guesses:
        pictures.append(("Accuracy of guessing each column", plot_guesses(results.guesses)))
    found_verdict = audit_verdict(ledger, numbers)
    cautions = (
        (SEEDED,) if record.provenance.private is not None and record.provenance.private.unsafe_seed is not None else ()
    )
    return RunReport(
        title=f"{record.data}, recipe {record.provenance.recipe}: what the run reveals about single rows",
        command=shlex.join(["feller", "audit", str(run.path), *flags(numbers)]),
        verdict=replace(found_verdict, cautions=cautions),
        compared=" ".join(sentence(line) for line in words),
        numbers=numbers,
        guarantee=NOT_PRIVATE_TEXT if ledger is None else guarantee_text.sentence(ledger, record, kind),
        expenses=ledger.describe_events() if ledger else (),
        caveat=guarantee_text.caveat(ledger),
        notes=results.notes,
        curve=None,
        pictures=pictures,
        heading="What an attacker could guess",
        grids=[
            *([_attacks(numbers)] if any(f"{way}_auc" in numbers for way in ATTACKS) else []),
            *([_reconstruction_grid(numbers)] if "rebuilt_error" in numbers else []),
            *candidates(numbers),
            *([_columns(results)] if results.guesses else []),
            *([_exposed_rows_grid(leakage.most_exposed(max_rows))] if leakage is not None else []),
            *results.grids,
        ],
    )


def _attacks(numbers: Mapping[str, Any]) -> ReportTable:
    rows = [
        (how, numbers[f"{way}_auc"], numbers[f"{way}_caught"], numbers[f"{way}_epsilon"], numbers.get("epsilon"))
        for way, how in ATTACKS.items()
        if f"{way}_auc" in numbers
    ]
    return ReportTable(
        "Membership attacks",
        "Training rows against held-out rows; random guessing gives an area of 0.5 and a TPR of 0.01. A lower bound"
        " above the stated epsilon means that the guarantee does not hold.",
        ("attack", "area under ROC", "TPR at 1 % FPR", "epsilon, lower bound", "epsilon, stated"),
        rows,
    )


def _reconstruction_grid(numbers: Mapping[str, Any]) -> ReportTable:
    steady = 2 * numbers.get("rebuilt_steady", 0) > numbers["rebuilt_rows"]
    least, bound_with_prior = numbers.get("fisher_median") if steady else None, numbers.get("fisher_with_prior")
    return ReportTable(
        "Rows reconstructed from the weights",
        "By an attacker who knows all other rows: at the optimum, the gradients sum to zero, so the other gradients"
        " determine the row, exactly if there is no noise. With much noise the estimates are biased, and only the mean"
        " error over many rows is bounded. Mean squared errors per coordinate.",
        ("attack", "error", "lower bound", "always the mean row"),
        [
            ("unclipped, median row", numbers["rebuilt_error"], least, numbers["spread"]),
            ("clipped to [0, 1], all rows", numbers["rebuilt_error_known"], bound_with_prior, numbers["spread"]),
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


def _columns(results: AttackResults) -> ReportTable:
    return ReportTable(
        "Cells guessed from the rest of the row",
        "Without a model, the best guess is the most frequent value. Higher accuracy on unseen rows comes from"
        " general knowledge of the population; the last column bounds the accuracy on training rows.",
        ("column", "most frequent value", "unseen rows", "training rows", "training rows, bound"),
        [(one.name, one.prior, one.others, one.members, _bound(one.bound)) for one in results.guesses],
    )


def _bound(bound: float | None) -> float | str | None:
    """Return a bound for display: its value, or a text if it is close to 1."""
    return "1.00 (no bound)" if bound is not None and bound >= CERTAIN else bound
