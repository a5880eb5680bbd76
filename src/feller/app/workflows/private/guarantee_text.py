"""What a private run promises, in numbers and in words."""

from typing import Any

from feller.app.workflows.run_config import Asked, example_of
from feller.data.modality import Modality
from feller.data.tables.modality import Table
from feller.data.tables.schema import ROW
from feller.privacy.accounting.ledger import NOTHING, Ledger, factor, rounded_up, strength

OWNER = (
    "This page and its numbers were measured on the rows themselves, and are not covered by the guarantee: they are"
    " for the owner of the rows, and so are judge.safetensors and exposure.safetensors, where they are."
)
AWAY = (
    " What may be given away are samples, and the model: model.json, average.safetensors, weights.safetensors,"
    " state.safetensors, ledger.json, recipe.json."
)
KEPT = " So are, with so large an epsilon, samples and model: keep them as you keep the rows."
PLD = "The same by privacy loss distributions, or by what holds and is less: what epsilon is."
"""What `epsilon_pld` means, for people."""
EXPLAIN = {
    "epsilon": "What was spent: one row changes how likely anything is that is told by a factor of e^epsilon at most.",
    "delta": "The chance that this does not cover.",
    "epsilon_pld": PLD,
    "epsilon_rdp": "The same by Rényi divergences, an older and looser count.",
    "rows_protected": "Rows that were learned from.",
}
"""What the numbers mean, for people."""


def promised(ledger: Ledger) -> dict[str, Any]:
    """Return the numbers of a guarantee: `epsilon` is the least that is known to hold."""
    spent = ledger.epsilon()
    return {
        "epsilon": spent,
        "delta": ledger.delta,
        "epsilon_pld": spent,
        "epsilon_rdp": ledger.epsilon("rdp"),
        "rows_protected": ledger.n,
    }


def beware(ledger: Ledger | None) -> str:
    """Say what is for the owner of the rows alone, and what may be given away; nothing where nothing is promised."""
    if ledger is None:
        return ""
    return OWNER + (KEPT if ledger.epsilon() >= NOTHING else AWAY)


def timing(counters: dict[str, Any], ledger: Ledger | None) -> dict[str, Any]:
    """Return how many steps a run took, and how long.

    Not how long a private one took: steps take longer the more rows they look at, so files hold its whole minutes,
    rounded up, which are no time that anybody measured.
    """
    steps = {"steps": counters["step"]}
    return steps if ledger else {**steps, "seconds": counters["seconds"]}


def sentence(ledger: Ledger, asked: Asked, kind: Modality) -> str:
    """Say what is guaranteed, so that it can be quoted."""
    epsilon = ledger.epsilon()
    stated, worth = rounded_up(epsilon).replace(",", ""), strength(epsilon)
    little = f" So large an epsilon {worth}." if worth else ""
    seeded = (
        " The noise was drawn from a seed that is written down, so that NOTHING is protected from who knows it."
        if asked.private is not None and asked.private.unsafe_seed is not None
        else ""
    )
    unit = kind.schema.unit if isinstance(kind, Table) else ROW
    several = "; who has several rows is protected less" if unit == ROW else f", one row of each {unit} was learned"
    whose, many, one = ("one row", "rows", "row") if unit == ROW else (f"all rows of one {unit}", f"{unit}s", unit)
    start = f" The model {asked.start_from} that it began with is taken for public, too." if asked.start_from else ""
    return (
        f"The model and everything drawn from it satisfy ({stated}, {ledger.delta:.3g})-differential privacy"
        f" with respect to adding or removing {whose} of the {ledger.n:,} {many} of {asked.data} that were learned"
        f" from: whatever anybody learns from them is at most {factor(epsilon)} times as likely as it would be without"
        f" any one {one}, but for a chance of {ledger.delta:.3g}.{little} {_public(asked, kind)} are taken for"
        f" public{several}.{start}{seeded}"
    )


def _public(asked: Asked, kind: Modality) -> str:
    rows = f"The number of rows with {asked.target[0]}" if asked.target else "The number of rows"
    if not isinstance(kind, Table):
        return f"{rows}, the size and the levels of the pictures, and the names of their classes"
    if asked.schema or asked.start_from or example_of(asked):
        return f"{rows} and the description of the columns"
    return f"{rows}, and the names and the order of the columns"
