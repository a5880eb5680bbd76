"""Registration of the crystal modality."""

from collections.abc import Iterator

from feller.app.modalities.registration import Registration, lazy_function
from feller.data.atoms.elements import formula
from feller.data.crystals.modality import Crystals
from feller.data.modality import Dataset, Modality
from feller.evaluation.attacks.example_distances import ExampleDistance
from feller.models.spec import ModelSpec


def formula_example(spec: ModelSpec, first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield an example condition as (KEY=VALUE, description): the formula of the first crystal in `first`.

    Yield nothing if the model `spec` does not accept formulas as conditions.
    """
    modality = first.modality
    if isinstance(modality, Crystals) and "element" in spec.conditionable:
        yield (
            f"element={formula(modality.crystals(first.values, first.given)[0].atomic_numbers)}",
            "crystals of one formula",
        )


def lattices(kind: Modality) -> ExampleDistance | None:
    """Return the distance function by which samples are recognised as copies of training crystals.

    The result is None if pymatgen is missing.
    """
    from feller.evaluation.attacks.structure_distances import CrystalDistance
    from feller.evaluation.crystal_metrics import is_installed

    return CrystalDistance() if is_installed("pymatgen") else None


REGISTRATIONS = {
    Crystals: Registration(
        recipe="crystals",
        measure=lazy_function("evaluation.crystal_metrics", "crystals_quality"),
        condition_examples=formula_example,
        valid=lazy_function("evaluation.validity", "valid_crystals"),
        valid_needs="pymatgen and SMACT",
        distance=lattices,
    )
}
