"""Disclosure risks of tables in an audit: singling out, linkability and inference, with their report tables."""

from collections.abc import Mapping

from feller.app.workflows.auditing.audit_target import AuditTarget
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables.histories import Histories
from feller.data.tables.modality import Table
from feller.data.tables.schema import ROW
from feller.evaluation.attacks.coded_histories import coded_columns, coded_histories
from feller.evaluation.attacks.coded_tables import CodedTables
from feller.evaluation.attacks.disclosure_risks import (
    MIN_UNSEEN,
    RISKS,
    DisclosureRisks,
    closeness,
    disclosure_risks,
)
from feller.evaluation.attacks.risk import HIGH_RISK, MAX_UNCERTAIN, UNMEASURED, Risk
from feller.evaluation.number_format import format_percent
from feller.evaluation.report.report_page import Cell, ReportTable

MEANINGS = {
    "singling_out": "a description taken from the samples fits exactly one person of the table",
    "linkability": "records of one person in two sources are linked by the samples",
    "inference": "an unknown cell of a person is guessed from the others and the samples",
}
Numbers = dict[str, float | str | None]


def table_risks(
    target: AuditTarget, samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng
) -> tuple[Numbers, tuple[ReportTable, ...]]:
    """Measure the disclosure risks of a table; return their metrics, and report tables.

    Those of histories are risks of persons: all of their rows are one record.

    Args:
        target: Audited run.
        samples: Samples of the run, as a table.
        train: Training rows, as a table.
        held_out: Held-out rows, as a table.
        rng: Random streams.
    """
    table, histories = train.modality.view(Table), train.modality.view(Histories)
    if table is not None:
        tables = coded_tables(table, samples, train, held_out)
        names = [column.name for column in table.schema.modelled]
    elif histories is not None:
        tables = coded_histories(histories, samples, train, held_out)
        names = [*coded_columns(histories)]
    else:
        return {}, ()
    risks = disclosure_risks(tables, rng.fold_in("risks"))
    epsilon = None if target.ledger is None else target.ledger.epsilon()
    nearness = closeness(tables, rng.fold_in("closeness"))
    numbers: Numbers = {**risks.numbers(epsilon, target.delta), **nearness}
    grids = [risk_grid(risks, epsilon, target.delta, target.unit)]
    if risks.columns:
        grids.append(inference_grid(risks, names, target.unit))
    if nearness:
        grids.append(closeness_grid(nearness, target.unit))
    return numbers, tuple(grids)


def coded_tables(table: Table, samples: Dataset, train: Dataset, held_out: Dataset) -> CodedTables:
    """Return the levels of samples, training rows and held-out rows of a table."""
    columns = table.schema.modelled
    synthetic, members, unseen = (table.to_levels(data.values).numpy() for data in (samples, train, held_out))
    return CodedTables(
        synthetic,
        members,
        unseen,
        tuple(len(column.level_names) for column in columns),
        tuple(column.is_ordered for column in columns),
        tuple(column.missing is not None for column in columns),
    )


def risk_grid(risks: DisclosureRisks, epsilon: float | None, delta: float, unit: str = ROW) -> ReportTable:
    """Return the report table of the three risks, with levels, intervals, controls and bounds of the guarantee."""
    header = (
        *("Risk", "level", "risk", "95 % interval", "without leakage"),
        *(f"success on training {unit}s", f"on held-out {unit}s", "without samples", "allowed by the guarantee"),
    )
    caption = (
        f"Success of an attack on training {unit}s beyond its success on held-out {unit}s, relative to what is left of"
        f" 100 %. Low: the interval reaches 0 or lies below it. Elevated: it lies above 0. High: it lies above"
        f" {format_percent(HIGH_RISK)}. Not measured: it reaches both 0 and {format_percent(MAX_UNCERTAIN)}."
        f" Success on held-out {unit}s is what the population reveals about anybody. Measured from real data."
    )
    rows = [_risk_row(name, risks.risks.get(name), epsilon, delta, unit) for name in RISKS]
    return ReportTable("Singling out, linkability, inference", caption, header, rows, is_first=True)


def _risk_row(name: str, risk: Risk | None, epsilon: float | None, delta: float, unit: str) -> tuple[Cell, ...]:
    label = f"{RISKS[name]}: {MEANINGS[name]}"
    if risk is None:
        return (label, f"{UNMEASURED}: needs {MIN_UNSEEN} held-out {unit}s", *[None] * 7)
    bound = None if epsilon is None or name == "singling_out" else format_percent(risk.bound(epsilon, delta))
    rates = (risk.attack, risk.control, risk.naive)
    level = _level_text(risk)
    interval = " to ".join(map(format_percent, risk.interval))
    return (label, level, format_percent(risk.value), interval, "0", *map(format_percent, rates), bound)


def _level_text(risk: Risk) -> str:
    """Return the level of a risk, with the number of attacks that would decide it, or a note on a useless attack."""
    if needed := risk.needed_guesses:
        return f"{risk.level}: needs about {needed:,} attacks, with {risk.guesses:,} made"
    return risk.level if risk.is_meaningful else f"{risk.level} (the attack is no better than guessing)"


def closeness_grid(numbers: Mapping[str, float], unit: str = ROW) -> ReportTable:
    """Return the report table of the distance to the closest record, with its values without leakage."""
    share, low, high = (numbers[name] for name in ("dcr_share", "dcr_null_low", "dcr_null_high"))
    place = "within" if low <= share <= high else "above" if share > high else "below"
    row = (
        *(f"samples closer to a training {unit} than to a held-out {unit}", format_percent(share), format_percent(0.5)),
        *(f"{format_percent(low)} to {format_percent(high)}", place),
    )
    return ReportTable(
        "Distance to the closest record",
        f"As many training {unit}s as held-out {unit}s; ties count half. The interval holds 95 % of the values that"
        f" random exchanges of training {unit}s and held-out {unit}s give. Measured from real data.",
        ("Measure", "value", "without leakage", "95 % without leakage", "the value is"),
        [row],
    )


def inference_grid(risks: DisclosureRisks, names: list[str], unit: str = ROW) -> ReportTable:
    """Return the report table of the risk of inference of each column, the most exposed column first."""
    rows = [
        (
            names[it.column],
            it.risk.level,
            format_percent(it.risk.value),
            " to ".join(map(format_percent, it.risk.interval)),
            *map(format_percent, (it.risk.attack, it.risk.control, it.risk.naive)),
        )
        for it in sorted(risks.columns, key=lambda it: -it.risk.interval[0])
    ]
    return ReportTable(
        "Inference, by column",
        f"Cells guessed from the nearest synthetic {unit} in all other columns. The intervals of all columns hold"
        " together with 95 % confidence. Measured from real data.",
        ("Column", "level", "risk", "interval", f"on training {unit}s", f"on held-out {unit}s", "without samples"),
        rows,
    )
