"""Specification of a model, which is all except its weights, and its storage in run folders."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import feller.data.all_modalities
import feller.models.families.block_diffusion_model
import feller.models.families.edit_model
import feller.models.families.path_process
import feller.models.families.predictive_models
import feller.models.families.sequence_models
import feller.models.infilling
import feller.models.pretrained.diffusers_latents
import feller.models.pretrained.diffusers_network
import feller.models.pretrained.row_language_model
import feller.models.pretrained.transformers_network
import feller.networks.image.latent_pixels
import feller.networks.sequence.edit_transformer
import feller.networks.step_end
import feller.paths.diffusion_steps  # noqa: F401 - records name classes of all of these
from feller.core.errors import InputError, check_probabilities, error_context, is_too_large
from feller.core.pytree import State, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, load_weights
from feller.core.serialization import CHOSEN, from_dict, to_dict
from feller.core.user_code import choose_code, fingerprint
from feller.data.modality import Dataset, Modality
from feller.models.families.model_family import ModelFamily
from feller.networks.condition_dropout import check_cond_dropout
from feller.networks.network_config import DEFAULT_PARAMETER_BYTES, NetworkConfig, limit_parameter_bytes, meta_init
from feller.paths import Path
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space


@dataclass(frozen=True)
class ModelSpec:
    """Specification of a model, which contains everything except the weights.

    It holds the modality of the data, the state space, the model family, the network configuration and the sampler
    settings.
    """

    modality: Modality
    space: Space
    family: ModelFamily
    """Model family of the network."""
    architecture: NetworkConfig
    frequencies: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Frequency of each class of each condition in the training data."""
    sampling: SamplerConfig = field(default_factory=SamplerConfig)
    cond_dropout: float = 0.0
    """Probability with which training drops the conditions of an example; if it is 0, the network has no null
    values."""
    conditionable: tuple[str, ...] = ()
    """Names of the components (leaves) of the state that can be observed while the other leaves are sampled."""
    aux_hashes: dict[str, str] = field(default_factory=dict)
    """Hashes of the weights files of the auxiliary networks used in training."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)
        for name, frequencies in self.frequencies.items():
            check_probabilities(f"frequencies[{name}]", frequencies)
        for name, classes in self.modality.conditions.items():
            if len(set(classes)) < len(classes):
                raise InputError(f"distinct class names for {name}", "duplicates")

    @property
    def path(self) -> Path:
        """Path of the model's process."""
        return self.family.require_path()

    def build(self, rng: Rng) -> nn.Module:
        """Build the model's network with newly initialised weights."""
        shape = tree_map(lambda leaf: tuple(leaf.shape[1:]), self.space.sample_base(0, rng.stream("shape")))
        counts = {name: len(classes) for name, classes in self.frequencies.items()}
        conditions = {**counts, **self.modality.entry_label_counts, **self.modality.selected_conditions}
        return self.architecture.build(shape, conditions, rng.fold_in("network"))

    def build_on_meta(self) -> nn.Module:
        """Build the model's network on the meta device, where its tensors have shapes but no values."""
        try:
            with meta_init():
                network = self.build(Rng(0))
        except NotImplementedError:  # the network reads values of tensors when it is built, such as a table's grammar
            network = self.build(Rng(0))
        return network.to("meta")

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Names of all conditions of the network that samples can be given."""
        return (*self.frequencies, *self.modality.selected_conditions)

    def null_condition(self, name: str, n: int) -> Tensor:
        """Return the null value of a condition for n examples, [n, ...]."""
        if name in self.frequencies:
            return torch.full((n,), len(self.frequencies[name]), dtype=torch.long)
        return self.modality.selected_conditions[name].null_values(n)


def state_shapes(space: Space) -> str:
    """Return a text with the shapes of a space's states, such as `image [1, 8, 8] and label []`."""
    return _written(space.sample_base(0, Rng(0).stream("shape")))


def _written(state: State) -> str:
    if not isinstance(state, dict):
        return str([*state.shape[1:]])
    return " and ".join(f"{name} {_written(leaf)}" for name, leaf in sorted(state.items()))


def class_frequencies(data: Dataset) -> dict[str, tuple[float, ...]]:
    """Return the frequency of each class of each condition in a dataset.

    Raises:
        InputError: If the data lack a condition of their modality.
    """
    for name in data.modality.conditions:
        if name not in data.given:
            raise InputError(
                f"these data have no condition {name}, which the model needs", remedy="Add this condition to the data"
            )
    cond = data.given if data.stream is None else {**data.given, **data.stream.given}
    return {
        name: tuple((torch.bincount(cond[name], minlength=len(classes)).double() / len(cond[name])).tolist())
        for name, classes in data.modality.conditions.items()
    }


def save_spec(run: Run, spec: ModelSpec) -> None:
    """Write a model's specification to its run folder."""
    run.write_record(run.model, to_dict(spec))


def load_spec(run: Run) -> ModelSpec:
    """Read the specification of a run's model from the run folder.

    Raises:
        InputError: If the record is missing or damaged, or was written by a newer version of feller.
    """
    record = run.read_record(run.model)
    if CHOSEN:  # class names may be ambiguous
        choose_code(run.path, _code_of(run))
    with error_context(run.model):
        # Some modalities contain networks, so reading the record allocates parameters.
        spec = limit_parameter_bytes(DEFAULT_PARAMETER_BYTES, lambda: from_dict(ModelSpec, record))
    try:
        space_shapes, modality_shapes = state_shapes(spec.space), state_shapes(spec.modality.space())
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "not enough memory" if is_too_large(error) else message
        raise InputError(
            f"the states of this model cannot be created: {reason}", remedy="Copy the whole run", file=run.model
        ) from error
    if space_shapes != modality_shapes:
        raise InputError(
            f"the record is damaged: its space has states of {space_shapes}, but its data"
            f" ({spec.modality.display_name}) have states of {modality_shapes}",
            remedy="Copy the whole run, or fit again",
            file=run.model,
        )
    return spec


def _code_of(run: Run) -> str:
    """Return the hash of the user code that a run was fitted with; empty if there is none or it is unreadable."""
    try:
        provenance = run.read_record(run.recipe).get("provenance", {})
    except InputError:  # reported where the file is needed
        return ""
    code = provenance.get("code", "") if isinstance(provenance, dict) else ""
    return code if isinstance(code, str) else ""


def load_aux_network(run: Run, name: str, module: nn.Module, expected: str | None) -> str:
    """Load the weights of an auxiliary network into a module, and return the hash of the weights file.

    Args:
        run: Run that contains the weights file.
        name: Name of the auxiliary network.
        module: Network whose weights are loaded.
        expected: Expected hash of the weights file; None if no model has been trained with the network yet.

    Raises:
        InputError: If the weights file is missing, damaged, or from another run.
    """
    file = run.aux_weights(name)
    if not file.is_file():
        raise InputError("a weights file", "no such file", "Copy the whole run", file=file)
    weights, _ = load_tensors(file)
    digest, mismatch = fingerprint(file), f"does not match {run.model}: the files come from different runs"
    if expected not in (None, digest):
        raise InputError(mismatch, remedy="Copy the whole run", file=file)
    try:
        load_weights(weights, module)
    except RuntimeError as error:
        raise InputError(mismatch, remedy="Copy the whole run", file=file) from error
    return digest
