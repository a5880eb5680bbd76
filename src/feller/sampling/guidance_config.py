"""Choice of a variant of classifier-free guidance by name, for the command line and for storage with a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from feller.core.errors import UsageError
from feller.paths import Affine, Network, Path, VelocityPrediction
from feller.sampling.guidance import ALWAYS, GuidanceWeight, cfg, check_interval
from feller.sampling.guidance_variants import apg, cfg_rescale, cfg_zero_star

GUIDANCE_METHODS = {
    "cfg": "the default; any weight for each condition",
    "rescale": "images that get too contrasted or saturated with a large scale",
    "zero-star": "velocity models: an optimal scale of the unconditional velocity (CFG-Zero*)",
    "apg": "large scales: without the part of the update that only scales the data prediction",
}
"""Name of each variant of guidance, and when to choose it."""


@dataclass(frozen=True)
class GuidanceVariant:
    """Variant of classifier-free guidance, and the times at which it acts."""

    method: str = "cfg"
    """Variant: cfg, rescale, zero-star or apg."""
    interval: tuple[float, float] = ALWAYS
    """Range of times with guidance; at other times, the prediction is conditional."""

    def __post_init__(self) -> None:
        if self.method not in GUIDANCE_METHODS:
            raise UsageError.unknown_name("guidance_method", self.method, GUIDANCE_METHODS)
        check_interval(self.interval, "guidance_interval")

    def apply(self, network: Network, w: GuidanceWeight, path: Path, droppable: Sequence[str]) -> Network:
        """Return the guided network of a model with this path.

        Raises:
            UsageError: If the variant does not support the path, or several guidance weights.
        """
        if isinstance(w, int | float) and w == 1:
            return network
        if self.method == "cfg":
            return cfg(network, w, droppable=droppable, interval=self.interval)
        if isinstance(w, Mapping):
            raise UsageError(f"one guidance scale for {self.method}", f"scales of {', '.join(w)}", argument="guidance")
        if path.affine_schedule is None:
            raise UsageError(
                f"an affine path for {self.method}", type(path).__name__, "Use cfg", argument="guidance_method"
            )
        affine = cast(Affine, path)
        if self.method == "rescale":
            return cfg_rescale(network, w, droppable=droppable, interval=self.interval)
        if self.method == "apg":
            return apg(network, w, affine, droppable=droppable, interval=self.interval)
        if affine.prediction != VelocityPrediction():
            found = type(affine.prediction).__name__
            raise UsageError("a velocity prediction for zero-star", found, "Use rescale", argument="guidance_method")
        return cfg_zero_star(network, w, droppable=droppable, interval=self.interval)
