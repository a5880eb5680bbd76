"""Models guided by a weaker model of the same data (autoguidance)."""

from dataclasses import fields
from typing import Any

from torch import nn

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State
from feller.models.model import Model
from feller.models.spec import ModelSpec, state_shapes
from feller.networks.unwrapping import null_values
from feller.sampling.guidance import ALWAYS
from feller.sampling.guidance_variants import autoguidance


class AutoguidedNetwork(nn.Module):
    """Network (1 - w) guide + w network, inside an interval of times."""

    def __init__(self, network: nn.Module, guide: nn.Module, w: float, interval: tuple[float, float]) -> None:
        super().__init__()
        self.network, self.guide = network, guide
        self.null_values = null_values(network)
        self._guided = autoguidance(network, guide, w, interval=interval)

    def forward(self, x_t: State, t: State, cond: Cond) -> State:
        """Return the guided prediction."""
        return self._guided(x_t, t, cond)


def _other_settings(spec: ModelSpec, other: ModelSpec) -> list[str]:
    """Return the settings in which the encodings of the data of two models differ."""
    first, second = spec.modality, other.modality
    if type(first) is not type(second):
        return ["modality"]
    names = {field.name for field in fields(first)} - {"classes", "selected_conditions"}
    different = sorted(name for name in names if getattr(first, name) != getattr(second, name))
    weights = sorted(spec.aux_hashes.items() ^ other.aux_hashes.items())
    return different or [f"{name} network" for name in dict(weights)]


def autoguided(model: Model, guide: Model, w: float, interval: tuple[float, float] = ALWAYS) -> Model:
    """Return a model whose network is guided by a smaller or less trained model.

    Source: Karras et al. 2024, "Guiding a diffusion model with a bad version of itself", arXiv 2406.02507.

    Args:
        model: Model of a flow on an affine path.
        guide: Weaker model with the same data, conditions and path.
        w: Guidance weight; 1 leaves the model as it is.
        interval: Range of times with guidance.

    Raises:
        UsageError: If the models differ in their data, their encoding, conditions or path, or the path is not affine.
    """
    spec, other = model.spec, guide.spec
    differences: tuple[tuple[str, Any, Any], ...] = (
        ("the states", state_shapes(spec.space), state_shapes(other.space)),
        ("the conditions", ", ".join(spec.condition_names), ", ".join(other.condition_names)),
        ("the path", getattr(spec.family, "path", None), getattr(other.family, "path", None)),
    )
    for name, expected, found in differences:
        if expected != found:
            expected = f"{name} of the model, {expected or 'none'}"
            raise UsageError(argument="guide", expected=expected, found=found or "none")
    kinds, others = ({**s.modality.conditions, **s.modality.selected_conditions} for s in (spec, other))
    if names := [name for name in kinds if kinds[name] != others[name]]:
        expected = f"the classes and statistics of the model for {', '.join(names)}"
        raise UsageError(argument="guide", expected=expected, found="others", remedy="Fit both to the same data")
    if names := _other_settings(spec, other):
        expected, found = "states encoded as those of the model", f"another {', '.join(names)}"
        raise UsageError(argument="guide", expected=expected, found=found, remedy="Fit both to the same data")
    if not spec.family.is_process or spec.path.affine_schedule is None:
        raise UsageError(argument="guide", expected="a flow on an affine path", found=spec.family.describe())
    return Model.from_spec(spec, AutoguidedNetwork(model.network, guide.network, w, interval), model.objective)
