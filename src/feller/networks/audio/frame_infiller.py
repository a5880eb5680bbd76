"""Transformer with U-Net skip connections that infills masked log mel frames."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes, num_classes
from feller.networks.blocks.conditioning import fourier_features, zero_init
from feller.networks.blocks.relative_positions import ALiBi, PositionEncoding
from feller.networks.blocks.time_conditioning import TimeConditioning, TimeToken
from feller.networks.network_config import NetworkConfig, seeded_init


class GroupedEmbedding(nn.Module):
    """Embedding of labels that form groups, such as the four labels of a phone, one per position in a word.

    The embedding of a label is the sum of its group's embedding and its own embedding, which is initialised to zero, so
    that a rare label starts with its group's embedding. The first label, and the null label after the last label, have
    no group.
    """

    def __init__(self, num_labels: int, group_size: int, width: int) -> None:
        super().__init__()
        self.num_labels, self.group_size = num_labels, group_size
        self.shared = nn.Embedding(2 + -(-(num_labels - 1) // group_size), width)
        self.individual = zero_init(nn.Embedding(num_labels + 1, width))

    def forward(self, label: Int64[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Return the embeddings of labels from 0 to `num_labels`; the last one is the null label."""
        group = (label + self.group_size - 1) // self.group_size
        group = group.masked_fill(label == self.num_labels, self.shared.num_embeddings - 1)
        return self.shared(group) + self.individual(label)


TIME_OCTAVES = 8
"""Number of octaves of the Fourier features of time."""


class ConvResidual(nn.Module):
    """Two convolutions over frames and mel bands; their output, initially zero, is added to that of a network.

    The noise in a state has as many dimensions as the state, which a narrow network can hardly represent. Neighbouring
    frames and bands and the time explain most of the noise, so the features of the network can represent longer
    context.
    """

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, channels, 5, padding=2)
        self.time_modulation = nn.Linear(2 * TIME_OCTAVES, 2 * channels)
        self.conv2 = zero_init(nn.Conv2d(channels, 1, 3, padding=1))
        self.input_scale = zero_init(nn.Linear(2 * TIME_OCTAVES, bands))

    def forward(
        self,
        x_t: Float[Tensor, "b n bands"],
        context: Float[Tensor, "b n bands"],
        t: Float[Tensor, " b"],
        valid: Bool[Tensor, "b n"] | None,
    ) -> Float[Tensor, "b n bands"]:
        """Return the output that is added to the network's output.

        Args:
            x_t: Noisy frames at the times `t`, zero at padding.
            context: Observed frames, zero at unobserved frames and at padding.
            t: Time of each example.
            valid: False for padding; None if there is no padding.
        """
        times = fourier_features(t.to(x_t.dtype), TIME_OCTAVES)
        scale, shift = self.time_modulation(times)[:, :, None, None].chunk(2, 1)
        features = F.gelu(self.conv1(torch.stack([x_t, context], 1)) * (1 + scale) + shift, approximate="tanh")
        if valid is not None:
            features = torch.where(valid[:, None, :, None], features, 0.0)
        return self.conv2(features)[:, 0] + self.input_scale(times)[:, None] * x_t


KERNEL_SIZE = 31
"""Kernel size of the convolutional position embedding, in frames."""
CONV_GROUPS = 16
"""Maximum number of groups of the convolutional position embedding; the number used must divide the width."""


class SkipTransformer(nn.Module):
    """Transformer with U-Net skip connections and a convolutional position embedding, in which padding is masked.

    The i-th last block receives the output of the i-th block; the projections of these skip connections are initialised
    to zero.
    Source: Le et al. 2023, "Voicebox", arXiv 2306.15687; the convolution: Baevski et al. 2020, "wav2vec 2.0", arXiv
    2006.11477.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        time_conditioning: TimeConditioning,
        position_encoding: PositionEncoding,
    ) -> None:
        super().__init__()
        self.heads, self.position_encoding = heads, position_encoding
        self.conv = nn.Conv1d(width, width, KERNEL_SIZE, groups=math.gcd(width, CONV_GROUPS))
        self.time_embed = time_conditioning.make_embedding(width)
        self.blocks = nn.ModuleList(time_conditioning.make_block(width, heads) for _ in range(depth))
        self.skip_projections = nn.ModuleList(zero_init(nn.Linear(2 * width, width)) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, h: Float[Tensor, "b n width"], t: Float[Tensor, " b"], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        h = h + self._conv_positions(h, valid)
        tokens, vector = self.time_embed(t)
        num_tokens = tokens.shape[1]
        h = torch.cat([tokens.to(h.dtype), h], 1)
        attend = self.position_encoding.make_attention(_key_mask(valid, num_tokens), h, self.heads, num_tokens)
        num_skips, first_skip, skips = len(self.skip_projections), len(self.blocks) - len(self.skip_projections), []
        for i, block in enumerate(self.blocks):
            if i >= first_skip:
                h = h + self.skip_projections[i - first_skip](torch.cat([h, skips.pop()], 2))
            h = block(h, vector.to(h.dtype), attend)
            if i < num_skips:
                skips.append(h)
        return self.norm(h[:, num_tokens:])

    def _conv_positions(
        self, h: Float[Tensor, "b n width"], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Return the convolutional position embedding; padding is zeroed."""
        unpadded = h if valid is None else h * valid[:, :, None]
        weight, padding = self.conv.weight[:, :, None], (0, KERNEL_SIZE // 2)
        # conv2d is faster than conv1d here
        y = F.conv2d(unpadded.mT[:, :, None], weight, self.conv.bias, padding=padding, groups=self.conv.groups)
        return F.gelu(y[:, :, 0].mT, approximate="tanh")


def _key_mask(valid: Bool[Tensor, "b n"] | None, num_tokens: int) -> Bool[Tensor, "b places"] | None:
    """Return the attention mask of prefix tokens and frames; an example without valid frames attends to all frames."""
    if valid is None:
        return None
    key_mask = valid | ~valid.any(1, keepdim=True)
    return F.pad(key_mask, (num_tokens, 0), value=True)


HEAD_DIM = 32
"""Number of features per attention head in `FrameInfiller.from_size`."""


@dataclass(frozen=True)
class FrameInfiller(NetworkConfig):
    """Transformer over frames with U-Net skip connections; the inputs of a frame are its state, context and label.

    A frame is a spectrogram column with a phone label, or a phone whose duration is the state.
    `cond["phone"]` [b, n] holds labels; `cond["context"]` [b, n, bands] observed values, zero elsewhere;
    `cond["known"]` [b, n] the observed mask (default: nothing observed); `cond["valid"]` [b, n] the padding mask.
    `null_values` lists all conditions that classifier-free guidance drops jointly. Unlike in the paper, the mask of
    observed frames is an input, so that an observed value of zero is not mistaken for a missing value. Source: Le et
    al. 2023, "Voicebox: Text-guided multilingual universal speech generation at scale", arXiv 2306.15687.
    """

    width: int = 128
    """Number of features per frame and per label."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Number of attention heads."""
    time_conditioning: TimeConditioning = field(default_factory=TimeToken)
    """Time conditioning; with `NoTimeConditioning` neither time nor state is an input of the network."""
    position_encoding: PositionEncoding = field(default_factory=ALiBi)
    """Relative position encoding of the frames."""
    group_size: int = 1
    """Number of labels per group, such as 4 for the positions of a phone in a word; see `GroupedEmbedding`."""
    conv_channels: int = 0
    """Number of channels of the additional convolutional branch `ConvResidual`; 0 for no branch."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.group_size) < 1:
            raise UsageError("width, depth, heads and group_size of at least 1", self)
        if self.conv_channels < 0 or (self.conv_channels and not self.time_conditioning.uses_time):
            raise UsageError("conv_channels of at least 0, and 0 without time conditioning", self.conv_channels)
        if self.width % (2 * self.heads):
            raise UsageError(f"a width divisible by twice the number of heads, {2 * self.heads}", self.width)

    @classmethod
    def from_size(
        cls,
        size: int,
        time_conditioning: TimeConditioning | None = None,
        position_encoding: PositionEncoding | None = None,
        group_size: int = 1,
        conv_channels: int = 0,
    ) -> "FrameInfiller":
        """Return a network configuration with `size` blocks, `size` attention heads and 32 features per head.

        The network has about 14,000 size^3 parameters: 0.4, 1.0 and 3.0 million at sizes 3, 4 and 6.
        """
        return cls(
            HEAD_DIM * size,
            size,
            size,
            time_conditioning or TimeToken(),
            position_encoding or ALiBi(),
            group_size,
            conv_channels,
        )

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "FrameInfillerNetwork":
        """Return a new network for frames with the condition `phone`.

        Args:
            shape: Shape (n, bands) of a state: number of frames and number of values per frame.
            conditions: Dict with the number of labels of the condition `phone`.
            rng: Random streams for the initial weights.
        """
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise UsageError(
                "FrameInfiller expects frames of shape (n, bands)", found=shape, remedy="Use UNet for images"
            )
        if conditions.keys() != {"phone"}:
            names = ", ".join(sorted(conditions)) or "none"
            raise UsageError(
                f"FrameInfiller expects one condition, phone, with the number of frame labels; found {names}"
            )
        with seeded_init(rng):
            return FrameInfillerNetwork(self, shape[1], num_classes("phone", conditions["phone"]))


class FrameInfillerNetwork(nn.Module):
    """Transformer with skip connections over frames, configured by `FrameInfiller`."""

    def __init__(self, config: FrameInfiller, bands: int, phones: int) -> None:
        super().__init__()
        width, self.uses_time = config.width, config.time_conditioning.uses_time
        self.null_values: dict[str, int | float] = {"phone": phones, "context": 0.0, "known": 0}
        """Null values of the conditions; the null label has its own embedding."""
        self.phone_embed = (
            nn.Embedding(phones + 1, width)
            if config.group_size == 1
            else GroupedEmbedding(phones, config.group_size, width)
        )
        self.embed = nn.Linear((1 + self.uses_time) * bands + 1 + width, width)
        self.transformer = SkipTransformer(
            width, config.depth, config.heads, config.time_conditioning, config.position_encoding
        )
        self.head = zero_init(nn.Linear(width, bands))
        self.conv_residual = ConvResidual(bands, config.conv_channels) if config.conv_channels else None

    def forward(
        self, x_t: Float[Tensor, "b n bands"], t: Float[Tensor, " b"], cond: Cond
    ) -> Float[Tensor, "b n bands"]:
        """Predict one value for each band of each frame; predictions are zero at padding.

        Raises:
            KeyError: If `phone` or `context` is missing from `cond`.
        """
        if not {"phone", "context"} <= cond.keys():
            raise KeyError(
                f"expected phone [b, n] and context [b, n, bands], got {', '.join(sorted(cond)) or 'none'}; pass a"
                " context of zeros if nothing is observed"
            )
        phone, context, valid = cond["phone"], cond["context"], cond.get("valid")
        observed_mask = cond.get("known", torch.zeros_like(phone, dtype=torch.bool))[:, :, None].to(context.dtype)
        inputs = [
            tensor.to(self.embed.weight.dtype)
            for tensor in ([x_t, context, observed_mask] if self.uses_time else [context, observed_mask])
        ]
        if valid is not None:
            inputs = [torch.where(valid[:, :, None], tensor, 0.0) for tensor in inputs]
            phone = torch.where(valid, phone, self.null_values["phone"])
        h = self.embed(torch.cat([*inputs, self.phone_embed(phone)], 2))
        output = self.head(self.transformer(h, t, valid))
        if self.conv_residual is not None:
            output = output + self.conv_residual(inputs[0], inputs[1], t, valid)
        return output if valid is None else output * valid[:, :, None]
