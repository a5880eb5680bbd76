"""Networks of diffusers in feller's conventions: images or latents, times in [0, 1], prompts and labels by name."""

import abc
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, check_number, message_of
from feller.core.pretrained_folder import require_diffusers
from feller.core.pytree import Cond, append_dims
from feller.core.rng import Rng
from feller.data.conditions.prompts import PromptCondition
from feller.networks.blocks.condition_encoders import ConditionTypes, num_classes
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.paths.predictions import DataPrediction, Prediction, convert
from feller.paths.schedules import Schedule

LABEL, PROMPT = "label", "prompt"
"""Names of the conditions of networks with classes and with texts."""
States = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class ClippedData:
    """Conversion of predictions to predictions of the data, which are clipped, as with `clip_sample` in diffusers."""

    schedule: Schedule
    prediction: Prediction
    """Quantity that the network predicts."""
    limit: float = 1.0
    """Largest absolute value of the data."""

    def __post_init__(self) -> None:
        check_number("limit", self.limit, gt=0)

    def __call__(self, prediction: States, x_t: States, t: Float[Tensor, " b"]) -> States:
        """Return the clipped prediction of the data."""
        scales = self.schedule(append_dims(t, x_t))
        return convert(prediction, self.prediction, DataPrediction(), x_t, scales).clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class DiffusersNetwork(NetworkConfig):
    """Configuration of a network of diffusers, which is rebuilt from its own configuration."""

    class_name: str
    """Class in diffusers: UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel, SD3Transformer2DModel or
    FluxTransformer2DModel."""
    config: str
    """Content of its config.json."""
    times: tuple[float, float] = (999.0, -1.0)
    """The network's times at the source and at the data; times below 0 are replaced by 0."""
    output_scale: float = 1.0
    """Factor of the output: -1 for a velocity that points from the data to the source."""
    clipped: ClippedData | None = None
    """Clipping of the predicted data; None if the output is used as it is."""
    embedded_guidance: float = 3.5
    """Guidance scale that distilled networks, such as FLUX.1-dev, take as an input."""

    def __post_init__(self) -> None:
        if self.class_name not in CALLS:
            raise UsageError.unknown_name("class_name", self.class_name, CALLS)
        if self.times[0] == self.times[1]:
            raise UsageError("the times of the source and of the data must differ", found=f"{self.times[0]:g} twice")

    @property
    def settings(self) -> dict[str, Any]:
        """Configuration of the network as a dict."""
        return json.loads(self.config)

    def build(self, shape: Any, conditions: ConditionTypes, rng: Rng) -> "DiffusersModule":
        network_class = diffusers_class(self.class_name)
        with seeded_init(rng):
            try:
                inner = network_class.from_config(self.settings)
            except Exception as error:  # diffusers raises many types
                found = message_of(error, 200)
                raise InputError(f"a configuration of {self.class_name}", found) from error
            return CALLS[self.class_name](self, inner, conditions)


def diffusers_class(name: str) -> Any:
    """Return a class of diffusers; UsageError if diffusers is not installed."""
    diffusers = require_diffusers(f"{name} networks")
    return getattr(diffusers, name)


class DiffusersModule(nn.Module, abc.ABC):
    """Network of diffusers; subclasses call it with its own arguments.

    It stays in eval mode, since its dropout would use the global random numbers of torch.
    """

    def __init__(self, config: DiffusersNetwork, inner: nn.Module, conditions: ConditionTypes) -> None:
        super().__init__()
        self.config, self.inner, self.conditions = config, inner.eval(), dict(conditions)
        self.null_values: dict[str, int | float] = {}
        if LABEL in self.conditions:
            self.null_values[LABEL] = num_classes(LABEL, self.conditions[LABEL])
        if PROMPT in self.conditions:
            self.null_values[PROMPT] = self.prompts.null
            self.register_buffer("null_prompt", torch.zeros(self.prompts.num_features))

    @property
    def prompts(self) -> PromptCondition:
        """Type of the prompts; UsageError if the network takes none."""
        prompts = self.conditions.get(PROMPT)
        if not isinstance(prompts, PromptCondition):
            raise UsageError(f"prompts for {self.config.class_name}", "none", "Import the folder of its pipeline")
        return prompts

    def train(self, mode: bool = True) -> "DiffusersModule":
        super().train(mode)
        self.inner.eval()
        return self

    def forward(self, x_t: States, t: Float[Tensor, " b"], cond: Cond) -> States:
        source, data = self.config.times
        prediction = self.predict(x_t, (source + (data - source) * t).clamp(min=0), cond)
        if self.config.output_scale != 1:
            prediction = self.config.output_scale * prediction
        return prediction if self.config.clipped is None else self.config.clipped(prediction, x_t, t)

    @abc.abstractmethod
    def predict(self, x_t: States, steps: Float[Tensor, " b"], cond: Cond) -> States:
        """Return the output of the network at its own times."""

    def prompt_features(self, cond: Cond) -> tuple[Float[Tensor, "b length width"], Float[Tensor, "b pooled"]]:
        """Return the features of the tokens of the prompts and of whole prompts; those of null prompts are stored."""
        features = cond[PROMPT].to(self.null_prompt.dtype)
        features = torch.where(features[:, :1].isnan(), self.null_prompt, features)
        return self.prompts.split(features)


class ImageUNet(DiffusersModule):
    """UNet2DModel, of images or latents, with classes or without conditions; variances are left out."""

    def predict(self, x_t: States, steps: Float[Tensor, " b"], cond: Cond) -> States:
        return self.inner(x_t, steps, class_labels=cond.get(LABEL)).sample[:, : x_t.shape[1]]


class PromptUNet(DiffusersModule):
    """UNet2DConditionModel of Stable Diffusion 1, 2 and XL."""

    def __init__(self, config: DiffusersNetwork, inner: nn.Module, conditions: ConditionTypes) -> None:
        super().__init__(config, inner, conditions)
        self.has_size = config.settings.get("addition_embed_type") == "text_time"

    def predict(self, x_t: States, steps: Float[Tensor, " b"], cond: Cond) -> States:
        tokens, pooled = self.prompt_features(cond)
        added = {"text_embeds": pooled, "time_ids": self._size(x_t)} if self.has_size else None
        return self.inner(x_t, steps, encoder_hidden_states=tokens, added_cond_kwargs=added).sample

    def _size(self, x_t: States) -> Float[Tensor, "b 6"]:
        """Return the original size of the images, the corner of the crop and the target size, as in SDXL."""
        height, width = (side * self.prompts.pixels_per_latent for side in x_t.shape[2:])
        return x_t.new_tensor([height, width, 0, 0, height, width]).expand(len(x_t), 6)


class LabelTransformer(DiffusersModule):
    """DiTTransformer2DModel, with classes; its output may also have variances, which are left out."""

    def predict(self, x_t: States, steps: Float[Tensor, " b"], cond: Cond) -> States:
        output = self.inner(x_t, timestep=steps, class_labels=cond[LABEL]).sample
        return output[:, : x_t.shape[1]]


class SD3Transformer(DiffusersModule):
    """SD3Transformer2DModel of Stable Diffusion 3."""

    def predict(self, x_t: States, steps: Float[Tensor, " b"], cond: Cond) -> States:
        tokens, pooled = self.prompt_features(cond)
        return self.inner(x_t, encoder_hidden_states=tokens, pooled_projections=pooled, timestep=steps).sample


class FluxTransformer(DiffusersModule):
    """FluxTransformer2DModel of FLUX.1, whose tokens are squares of two by two latents."""

    def predict(self, x_t: States, steps: Float[Tensor, " b"], cond: Cond) -> States:
        tokens, pooled = self.prompt_features(cond)
        rows, columns = (side // 2 for side in x_t.shape[2:])
        guidance = steps.new_full((len(x_t),), self.config.embedded_guidance)
        output = self.inner(
            x_t.unflatten(2, (rows, 2)).unflatten(4, (columns, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2),
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=steps / 1000,
            img_ids=_grid_ids(rows, columns, x_t),
            txt_ids=x_t.new_zeros(tokens.shape[1], 3),
            guidance=guidance if self.inner.config.guidance_embeds else None,
        ).sample
        patches = output.unflatten(1, (rows, columns)).unflatten(3, (x_t.shape[1], 2, 2))
        return patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _grid_ids(rows: int, columns: int, like: Tensor) -> Float[Tensor, "tokens 3"]:
    """Return 0, the row and the column of each token of an image."""
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(like)
    return torch.cat([torch.zeros_like(grid[:, :1]), grid], 1)


CALLS: Mapping[str, type[DiffusersModule]] = {
    "UNet2DModel": ImageUNet,
    "UNet2DConditionModel": PromptUNet,
    "DiTTransformer2DModel": LabelTransformer,
    "SD3Transformer2DModel": SD3Transformer,
    "FluxTransformer2DModel": FluxTransformer,
}
"""Adapter of each known class of networks of diffusers."""
