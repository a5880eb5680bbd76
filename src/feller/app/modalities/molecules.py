"""Molecules."""

from collections.abc import Iterator

from feller.app.modalities.registration import Pair, Registration, apart_as, later
from feller.data.atoms.elements import hill_formula
from feller.data.modality import Dataset
from feller.data.molecules.figure import balls
from feller.data.molecules.modality import Molecules, molecules_of
from feller.models.spec import ModelSpec


def modelled(first: Dataset, second: Dataset, behind: Dataset | None = None) -> Pair:
    """Draw balls at one scale."""
    one, other = molecules_of(first), molecules_of(second)
    return balls(one, same_scale_as=other), balls(other, same_scale_as=one)


def formula_wanted(about: ModelSpec, first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the formula of one of the molecules."""
    if "element" in about.conditionable:
        yield f"element={hill_formula(molecules_of(first)[0].atomic_numbers)}", "molecules of one formula"


REGISTRATIONS = {
    Molecules: Registration(
        recipe="molecules",
        measure=later("evaluation.molecules", "molecules_quality"),
        beside=modelled,
        wishes=formula_wanted,
        valid=later("evaluation.validity", "valid_molecules"),
        valid_needs="rdkit (pip install 'feller[molecules]')",
        apart=apart_as("Clouds"),
    ),
}
