"""What a private run promises, in numbers and in words."""

from typing import Any

from feller.app.workflows.run_config import FitRecord, is_described
from feller.data.loading.targets import predicts_target
from feller.data.modality import Modality
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
    "This page was measured on the rows themselves and is not covered by the guarantee: it is for the owner of the rows"
    " only, and so are judge.safetensors and exposure.safetensors."
)
SHAREABLE = (
    " Samples and the model may be shared: model.json, average.safetensors, weights.safetensors, state.safetensors,"
    " ledger.json, recipe.json."
)
LARGE_EPSILON_TEXT = " With so large an epsilon, samples and model are for the owner as well."


def guarantee_numbers(ledger: Ledger) -> dict[str, Any]:
    """Return the numbers of a guarantee: `epsilon` is the least that is known to hold."""
    spent = ledger.epsilon()
    return {
        "epsilon": spent,
        "delta": ledger.delta,
        "epsilon_pld": spent,
        "epsilon_rdp": ledger.epsilon("rdp"),
        "rows_protected": ledger.n,
    }


def caveat(ledger: Ledger | None) -> str:
    """Say what is for the owner of the rows alone, and what may be given away; nothing where nothing is promised."""
    if ledger is None:
        return ""
    return OWNER + (LARGE_EPSILON_TEXT if ledger.epsilon() >= MEANINGLESS_EPSILON else SHAREABLE)


def timing(counters: dict[str, Any], ledger: Ledger | None) -> dict[str, Any]:
    """Return how many steps a run took, and how long.

    Not how long a private one took: steps take longer the more rows they look at, so files hold its whole minutes,
    rounded up, which are no time that anybody measured.
    """
    steps = {"steps": counters["step"]}
    return steps if ledger else {**steps, "seconds": counters["seconds"]}


def sentence(ledger: Ledger, record: FitRecord, kind: Modality) -> str:
    """Return the guarantee, so that it can be quoted."""
    epsilon = ledger.epsilon()
    stated, worth = format_rounded_up(epsilon).replace(",", ""), describe_weakness(epsilon)
    table = kind.view(Table)
    unit = ROW if table is None else table.schema.unit
    whose, many, one = ("one row", "rows", "row") if unit == ROW else (f"all rows of one {unit}", f"{unit}s", unit)
    several = "Who has several rows is protected less." if unit == ROW else f"One row of each {unit} was learned."
    sentences = [
        f"The model and everything drawn from it satisfy ({stated}, {ledger.delta:.3g})-differential privacy"
        f" with respect to adding or removing {whose} of the {ledger.n:,} {many} of {record.data} that were learned"
        f" from: any outcome is at most {format_exp_epsilon(epsilon)} times as likely as without any one {one}, except"
        f" with probability {ledger.delta:.3g}.",
        f"So large an epsilon {worth}." if worth else "",
        f"Public: {_public(record, kind)}{f', and the model {record.start_from}' if record.start_from else ''}.",
        several,
        "The noise was drawn from a recorded seed: NOTHING is protected from anyone who knows it."
        if record.provenance.private is not None and record.provenance.private.unsafe_seed is not None
        else "",
    ]
    return " ".join(filter(None, sentences))


def _public(record: FitRecord, kind: Modality) -> str:
    has_target = record.target and predicts_target(record.provenance.recipe)
    rows = f"the number of rows with {record.target[0]}" if has_target else "the number of rows"
    if kind.view(Table) is None:
        return f"{rows}, the size and the levels of the pictures, and the names of their classes"
    if is_described(record):
        return f"{rows} and the description of the columns"
    return f"{rows}, and the names and the order of the columns"
