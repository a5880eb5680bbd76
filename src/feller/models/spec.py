"""What a model is, but for its weights."""

from dataclasses import dataclass, field

import torch
from torch import nn

import feller.data.modalities
import feller.models.families.answering_models
import feller.models.families.path_process
import feller.models.families.symbol_models
import feller.models.infilling  # noqa: F401 - records name classes of all of these
from feller.core.errors import InputError, is_too_large
from feller.core.pytree import State, tree_map
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, put
from feller.core.serialization import from_data, to_data
from feller.core.user_code import fingerprint
from feller.data.loading.raw import about
from feller.data.modality import Dataset, Modality
from feller.models.families.model_family import ModelFamily
from feller.networks.architecture import PLENTY, Architecture, within
from feller.paths import Path
from feller.sampling.sampler_config import Sampling
from feller.spaces import Space
from feller.training.condition_dropout import check_drop


@dataclass(frozen=True)
class Description:
    """What a model is, but for its weights."""

    modality: Modality
    space: Space
    family: ModelFamily
    """What the network means."""
    architecture: Architecture
    frequencies: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """How often each class of each condition is in the training data."""
    sampling: Sampling = field(default_factory=Sampling)
    drop: float = 0.0
    """Chance with which conditions were dropped in training; without it the network knows no "not given"."""
    fixable: tuple[str, ...] = ()
    """Leaves of the state that may be given: the model has learned to draw the others beside them."""
    parts: dict[str, str] = field(default_factory=dict)
    """Hashes of the files of the networks that data need to be read and written, with which the model has learned."""

    def __post_init__(self) -> None:
        check_drop(self.drop)
        for name, classes in self.modality.conditions.items():
            if len(set(classes)) < len(classes):
                raise InputError(f"expected classes of {name} that differ, got two of one name")

    @property
    def path(self) -> Path:
        """The path that the network drives.

        Raises:
            UsageError: If its family has none.
        """
        return self.family.require_path()

    def build(self, draws: Draws) -> nn.Module:
        """Make the network, with new weights."""
        shape = tree_map(lambda leaf: tuple(leaf.shape[1:]), self.space.reference(0, draws.at("shape")))
        counts = {name: len(shares) for name, shares in self.frequencies.items()}
        return self.architecture.build(shape, {**counts, **self.modality.labels}, draws.named("network"))


def shapes(space: Space) -> str:
    """Write the shapes of the states of a space, such as `image [1, 8, 8] and label []`."""
    return _written(space.reference(0, Draws(0).at("shape")))


def _written(state: State) -> str:
    if not isinstance(state, dict):
        return str([*state.shape[1:]])
    return " and ".join(f"{name} {_written(leaf)}" for name, leaf in sorted(state.items()))


def frequencies(data: Dataset) -> dict[str, tuple[float, ...]]:
    """Count how often each class of each condition occurs.

    Raises:
        InputError: If the data lack a condition of their modality.
    """
    for name in data.modality.conditions:
        if name not in data.given:
            raise InputError(f"these data have no {name}, and the model that they are for has; add that column")
    known = data.given if data.stream is None else {**data.given, **data.stream.given}
    return {
        name: tuple((torch.bincount(known[name], minlength=len(classes)).double() / len(known[name])).tolist())
        for name, classes in data.modality.conditions.items()
    }


def save_description(run: Run, description: Description) -> None:
    """Write what the model is."""
    run.write_record(run.model, to_data(description))


def load_description(run: Run) -> Description:
    """Read what the model of a run is.

    Raises:
        InputError: If the record is missing, damaged or newer than this version.
    """
    record = run.read_record(run.model)
    with about(run.model):
        found = within(PLENTY, lambda: from_data(Description, record))  # some modalities hold networks
    try:
        ours, theirs = shapes(found.space), shapes(found.modality.space())
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        why = "they take more memory than there is; copy the whole run" if is_too_large(error) else told
        raise InputError(f"{run.model} has states that cannot be made: {why}") from error
    if ours != theirs:
        raise InputError(
            f"{run.model} was damaged: its space has states of {ours}, and its data, {found.modality.called}, make"
            f" states of {theirs}; copy the whole run, or fit anew"
        )
    return found


def load_part(run: Run, name: str, module: nn.Module, expected: str | None) -> str:
    """Give one of the networks that data need to be read and written its weights, and return the hash of their file.

    Args:
        run: Holds them.
        name: Of the network.
        module: The network.
        expected: The hash that they must have; None as long as nothing was learned with them.

    Raises:
        InputError: If the file is missing, damaged, or that of another network.
    """
    file = run.part(name)
    if not file.is_file():
        raise InputError(f"expected a file {file}, found none; copy the whole run")
    weights, _ = load_tensors(file)
    found, wrong = fingerprint(file), f"{file} does not belong to {run.model}: they are of two runs; copy the whole run"
    if expected not in (None, found):
        raise InputError(wrong)
    try:
        put(weights, module)
    except RuntimeError as error:
        raise InputError(wrong) from error
    return found
