"""Conversion of the privacy guarantee of a run to numbers and to text."""

from typing import Any

from feller.app.workflows.private.wide_columns import LABEL
from feller.app.workflows.run_config import FitRecord, is_described
from feller.data.loading.targets import predicts_target
from feller.data.modality import Modality
from feller.data.tables.histories import Histories
from feller.data.tables.linked_tables import LinkedTables
from feller.data.tables.modality import Table
from feller.data.tables.schema import ROW
from feller.privacy.accounting.ledger import (
    MEANINGLESS_EPSILON,
    Ledger,
    describe_weakness,
    format_exp_epsilon,
    format_rounded_up,
)

OWNER = (
    "This page is computed from the rows and not covered by the guarantee: it is for the owner of the rows only, as are"
    " judge.safetensors and exposure.safetensors."
)
SHAREABLE = (
    " Samples and the model may be shared: model.json, average.safetensors, weights.safetensors, state.safetensors,"
    " ledger.json, recipe.json."
)
SEARCH_NOTE = "The held-out data went through the schema search too, so the guarantee holds for them as well."
PERSON = "person"
"""Name of the privacy unit of tables with several rows per person."""
LARGE_EPSILON_TEXT = " At this epsilon, samples and model are for the owner only as well."


def privacy_unit(modality: Modality) -> str:
    """Return the noun for what a guarantee covers: row, person, or the name of the column that identifies people."""
    table, histories = modality.view(Table), modality.view(Histories)
    if table is not None:
        return table.schema.unit
    return ROW if histories is None else PERSON


def guarantee_numbers(ledger: Ledger, unit: str = ROW) -> dict[str, Any]:
    """Return the values of a privacy guarantee by name; `epsilon` is the smallest of the valid bounds on epsilon.

    `unit` is the result of `privacy_unit`; it is a value of its own, `protected_unit`, unless it is a row.
    """
    epsilon = ledger.epsilon()
    return {
        "epsilon": epsilon,
        "delta": ledger.delta,
        "epsilon_pld": epsilon,
        "epsilon_rdp": ledger.epsilon("rdp"),
        "rows_protected": ledger.n,
        **({} if unit == ROW else {"protected_unit": unit}),
    }


def caveat(ledger: Ledger | None) -> str:
    """Return a text that says which files of a run may be shared, and which are for the owner of the rows only.

    The text is empty for a run without differential privacy.
    """
    if ledger is None:
        return ""
    return OWNER + (LARGE_EPSILON_TEXT if ledger.epsilon() >= MEANINGLESS_EPSILON else SHAREABLE)


def timing(counters: dict[str, Any], ledger: Ledger | None) -> dict[str, Any]:
    """Return the number of steps and the duration in seconds of a run, as metrics by name.

    For a private run the duration is omitted: step times depend on batch sizes, so the files of the run only store
    whole minutes, rounded up.

    Args:
        counters: Recorded counts of the run, with the keys `step` and `seconds`.
        ledger: Privacy ledger; None for a run that is not private.
    """
    steps = {"steps": counters["step"]}
    return steps if ledger else {**steps, "seconds": counters["seconds"]}


def sentence(ledger: Ledger, record: FitRecord, kind: Modality) -> str:
    """Return the privacy guarantee in words that can be quoted: epsilon and delta, what is protected, what is public.

    Args:
        ledger: Privacy ledger with all costs.
        record: Fit record, which names the data and the target.
        kind: Modality of the data; the schema of a table names the protected unit, such as a person.
    """
    epsilon = ledger.epsilon()
    epsilon_text, weakness = format_rounded_up(epsilon).replace(",", ""), describe_weakness(epsilon)
    table, histories, unit = kind.view(Table), kind.view(Histories), privacy_unit(kind)
    group = "one row" if unit == ROW else f"all rows of one {unit}"
    rows_note = (
        "A person with several rows is protected less."
        if unit == ROW
        else f"The training set has one row of each {unit}."
        if histories is None
        else _histories_note(histories)
    )
    sentences = [
        f"The model and everything drawn from it satisfy ({epsilon_text}, {ledger.delta:.3g})-differential privacy"
        f" with respect to adding or removing {group} among the {ledger.n:,} {unit}s of {record.data} used for"
        f" training: any outcome is at most {format_exp_epsilon(epsilon)} times as likely as without any one {unit},"
        f" except with probability {ledger.delta:.3g}.",
        f"An epsilon this large {weakness}." if weakness else "",
        f"Public: {_public(record, kind)}{f', and the model {record.start_from}' if record.start_from else ''}.",
        rows_note,
        SEARCH_NOTE if (table or histories) is not None and _searched(ledger, record) else "",
        "The noise comes from a recorded seed: NOTHING is protected from anyone who knows it."
        if record.provenance.private is not None and record.provenance.private.unsafe_seed is not None
        else "",
    ]
    return " ".join(filter(None, sentences))


def _histories_note(histories: Histories) -> str:
    """Return who counts as a person, and how many rows of a person are used."""
    linked, most = histories.view(LinkedTables), histories.history.max_rows
    if linked is None:
        return f"A person is a value of {histories.schema.unit}, with at most {most} rows in the training set."
    persons = linked.links.persons.name
    return f"A person is a row of {persons} with all of its rows in other tables, at most {most} together."


def _searched(ledger: Ledger, record: FitRecord) -> bool:
    """Return True if all rows, also the held-out ones, went through a schema search or a grouping of values."""
    return not is_described(record) or any(getattr(event, "label", "") == LABEL for event in ledger.events)


def _public(record: FitRecord, modality: Modality) -> str:
    has_target = record.target and predicts_target(record.provenance.recipe)
    rows_text = f"the number of rows with {record.target[0]}" if has_target else "the number of rows"
    if modality.view(Histories) is not None:
        columns = "the description" if is_described(record) else "the names and the order"
        return f"the number of persons, and {columns} of the columns"
    if modality.view(Table) is None:
        return f"{rows_text}, the size and the levels of the images, and the names of their classes"
    if is_described(record):
        return f"{rows_text} and the description of the columns"
    return f"{rows_text}, and the names and the order of the columns"
