"""Registration of the molecule modality."""

from collections.abc import Iterator

from feller.app.modalities.registration import ImagePair, Registration, apart_as, lazy_function
from feller.data.atoms.elements import hill_formula
from feller.data.modality import Dataset
from feller.data.molecules.figure import balls
from feller.data.molecules.modality import Molecules, molecules_of
from feller.models.spec import ModelSpec


def draw_molecules(first: Dataset, second: Dataset, behind: Dataset | None = None) -> ImagePair:
    """Draw two sets of molecules as ball models at the same scale, as one image each."""
    left, right = molecules_of(first), molecules_of(second)
    return balls(left, same_scale_as=right), balls(right, same_scale_as=left)


def formula_example(spec: ModelSpec, first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield an example condition as (KEY=VALUE, description): the formula of the first molecule in `first`.

    Yield nothing if the model `spec` does not accept formulas as conditions.
    """
    if "element" in spec.conditionable:
        yield f"element={hill_formula(molecules_of(first)[0].atomic_numbers)}", "molecules of one formula"


REGISTRATIONS = {
    Molecules: Registration(
        recipe="molecules",
        measure=lazy_function("evaluation.molecule_metrics", "molecules_quality"),
        beside=draw_molecules,
        condition_examples=formula_example,
        valid=lazy_function("evaluation.validity", "valid_molecules"),
        valid_needs="rdkit (pip install 'feller[molecules]')",
        distance=apart_as("MoleculeDistance"),
    )
}
