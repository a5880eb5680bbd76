"""Registrations of the modalities for protein backbones, with and without sequences."""

from collections.abc import Iterator

from feller.app.modalities.registration import ImagePair, Registration, apart_as, lazy_function
from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.figure import traces
from feller.data.proteins.frames import CA
from feller.data.proteins.modality import Proteins, backbones_only
from feller.models.spec import ModelSpec


def draw_traces(first: Dataset, second: Dataset, behind: Dataset | None = None) -> ImagePair:
    """Draw the C-alpha traces of two sets of protein chains at the same scale, as one image each."""
    a, b = (_atoms(backbones_only(dataset)) for dataset in (first, second))
    return traces(a, same_scale_as=b), traces(b, same_scale_as=a)


def _atoms(data: Dataset) -> list:
    modality = data.modality
    return (
        [atoms[:, CA] for atoms in modality.chains(data.values, data.given)] if isinstance(modality, Backbones) else []
    )


def sequence_examples(spec: ModelSpec, first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield example conditions as (KEY=VALUE, description): a sequence and a structure file.

    The sequence is the shortest one in `first` without unknown residues. Each condition is left out if the model `spec`
    does not accept it.
    """
    modality, conditionable = first.modality, {*spec.conditionable}
    if isinstance(modality, Proteins) and "residue" in conditionable:
        complete = [sequence for sequence in modality.chains(first.values, first.given)[1] if "X" not in sequence]
        if complete:
            yield f"residue={min(complete, key=len)}", "structures of one sequence"
    if {"rotation", "position"} <= conditionable:
        yield "structure=chain.pdb", "sequences for the structure in a file"


REGISTRATIONS = {
    Backbones: Registration(
        recipe="backbones",
        measure=lazy_function("evaluation.backbone_metrics", "backbones_quality"),
        beside=draw_traces,
        valid=lazy_function("evaluation.validity", "valid_chains"),
        distance=apart_as("ChainDistance"),
    ),
    Proteins: Registration(
        recipe="proteins",
        measure=lazy_function("evaluation.protein_metrics", "proteins_quality"),
        beside=draw_traces,
        condition_examples=sequence_examples,
        valid=lazy_function("evaluation.validity", "valid_chains"),
        distance=apart_as("ChainDistance"),
    ),
}
