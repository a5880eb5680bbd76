"""Backbones of proteins, with their sequences or without."""

from collections.abc import Iterator

from feller.app.modalities.registration import Pair, Registration, apart_as, later
from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.figure import traces
from feller.data.proteins.frames import CA
from feller.data.proteins.modality import Proteins, backbones_only
from feller.models.spec import ModelSpec


def traced(first: Dataset, second: Dataset, behind: Dataset | None = None) -> Pair:
    """Draw the traces of two sets of chains at one scale."""
    a, b = (_atoms(backbones_only(some)) for some in (first, second))
    return traces(a, same_scale_as=b), traces(b, same_scale_as=a)


def _atoms(data: Dataset) -> list:
    kind = data.modality
    return [atoms[:, CA] for atoms in kind.chains(data.values, data.given)] if isinstance(kind, Backbones) else []


def sequences_wanted(about: ModelSpec, first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the shortest of some sequences, and the structure in a file."""
    kind, may = first.modality, {*about.conditionable}
    if isinstance(kind, Proteins) and "residue" in may:
        known = [letters for letters in kind.chains(first.values, first.given)[1] if "X" not in letters]
        if known:
            yield f"residue={min(known, key=len)}", "structures of one sequence"
    if {"rotation", "position"} <= may:
        yield "structure=chain.pdb", "sequences for the structure in a file"


REGISTRATIONS = {
    Backbones: Registration(
        recipe="backbones",
        measure=later("evaluation.backbones", "backbones_quality"),
        beside=traced,
        valid=later("evaluation.validity", "valid_chains"),
        apart=apart_as("Chains"),
    ),
    Proteins: Registration(
        recipe="proteins",
        measure=later("evaluation.proteins", "proteins_quality"),
        beside=traced,
        wishes=sequences_wanted,
        valid=later("evaluation.validity", "valid_chains"),
        apart=apart_as("Chains"),
    ),
}
