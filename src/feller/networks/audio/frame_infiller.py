"""Transformer over log mel frames that fills in masked frames, with skip connections."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.blocks.conditioning import fourier_features, zero_init
from feller.networks.blocks.relative_positions import ALiBi, PositionEncoding
from feller.networks.blocks.time_conditioning import TimeConditioning, TimeToken
from feller.networks.network_config import NetworkConfig, seeded_init


class GroupedEmbedding(nn.Module):
    """Embeds labels that come in groups, as a phone comes in the four places of a word.

    Kin share an embedding, to which each adds its own, which is zero at first: a label that training hardly has is
    taken for one of its kin. The first label and "not given", behind the last, have no kin.
    """

    def __init__(self, num_labels: int, group_size: int, width: int) -> None:
        """Make embeddings of so many features, for groups of so many labels."""
        super().__init__()
        self.num_labels, self.group_size = num_labels, group_size
        self.shared = nn.Embedding(2 + -(-(num_labels - 1) // group_size), width)
        self.individual = zero_init(nn.Embedding(num_labels + 1, width))

    def forward(self, label: Int64[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Embed labels, and `num_labels` itself as "not given"."""
        group = (label + self.group_size - 1) // self.group_size
        group = group.masked_fill(label == self.num_labels, self.shared.num_embeddings - 1)
        return self.shared(group) + self.individual(label)


TIME_OCTAVES = 8
"""Of the time."""


class ConvResidual(nn.Module):
    """Two convolutions over frames and bands that add to the answer of a network; zero until they have learned.

    The noise in a state is as wide as the state, so that a network with few features for each frame can hardly carry
    it. Most of it can be told from the nearest frames and bands, once the time says how much there is: that is done
    here, and the features of the network are left to what needs more context.
    """

    def __init__(self, bands: int, channels: int) -> None:
        """Make convolutions with so many channels between them."""
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
        """Return what is added; state and context are zero where frames are padding."""
        times = fourier_features(t.to(x_t.dtype), TIME_OCTAVES)
        scale, shift = self.time_modulation(times)[:, :, None, None].chunk(2, 1)
        features = F.gelu(self.conv1(torch.stack([x_t, context], 1)) * (1 + scale) + shift, approximate="tanh")
        if valid is not None:
            features = torch.where(valid[:, None, :, None], features, 0.0)
        return self.conv2(features)[:, 0] + self.input_scale(times)[:, None] * x_t


KERNEL_SIZE = 31
"""Frames that the convolution before the first block sees."""
CONV_GROUPS = 16
"""Groups of features that it keeps apart, or as many as divide the width."""


class SkipTransformer(nn.Module):
    """Blocks of attention; block i from the end also reads what block i from the beginning said.

    A convolution tells each frame where it is among its neighbours. Padding changes nothing. Source: Le et al. 2023,
    "Voicebox", arXiv 2306.15687; the convolution is that of Baevski et al. 2020, "wav2vec 2.0", arXiv
    2006.11477. A joint starts as the identity of the later features.
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
        """Return the features of each frame."""
        h = h + self._conv_positions(h, valid)
        tokens, vector = self.time_embed(t)
        many = tokens.shape[1]
        h = torch.cat([tokens.to(h.dtype), h], 1)
        attend = self.position_encoding.make_attention(_key_mask(valid, many), h, self.heads, many)
        half, rest, skips = len(self.skip_projections), len(self.blocks) - len(self.skip_projections), []
        for i, block in enumerate(self.blocks):
            if i >= rest:
                h = h + self.skip_projections[i - rest](torch.cat([h, skips.pop()], 2))
            h = block(h, vector.to(h.dtype), attend)
            if i < half:
                skips.append(h)
        return self.norm(h[:, many:])

    def _conv_positions(
        self, h: Float[Tensor, "b n width"], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Return what the frames around each say; padding says nothing."""
        unpadded = h if valid is None else h * valid[:, :, None]
        weight, sides = self.conv.weight[:, :, None], (0, KERNEL_SIZE // 2)
        # torch's convolution in two dimensions is faster than its own in one
        y = F.conv2d(unpadded.mT[:, :, None], weight, self.conv.bias, padding=sides, groups=self.conv.groups)
        return F.gelu(y[:, :, 0].mT, approximate="tanh")


def _key_mask(valid: Bool[Tensor, "b n"] | None, num_tokens: int) -> Bool[Tensor, "b places"] | None:
    """Return the places that attention sees: tokens and frames, or all where there is none of either."""
    if valid is None:
        return None
    some = valid | ~valid.any(1, keepdim=True)
    return F.pad(some, (num_tokens, 0), value=True)


HEAD_DIM = 32
"""Features of a head, and features for each block, where one number says the size."""


@dataclass(frozen=True)
class FrameInfiller(NetworkConfig):
    """Each frame is the state, the context and a label; a folded transformer looks at all of them.

    A frame is a slice of a spectrogram and its label a phone, or a frame is a phone and the state how long it lasts.
    `given["phone"]` [b, n] holds labels; `given["context"]` [b, n, bands] what is kept, zero elsewhere, and
    `given["known"]` [b, n] marks what that is (absent: nothing); `given["valid"]` [b, n] marks what is no padding.
    `null_values` names all that guidance leaves out together. Other than in the paper, the network sees `known`: a
    context that is truly zero is no gap. Source: Le et al. 2023, "Voicebox: Text-guided multilingual universal speech
    generation at scale", arXiv 2306.15687.
    """

    width: int = 128
    """Features of each frame, and of each label."""
    depth: int = 4
    """Blocks of attention."""
    heads: int = 4
    """Heads of the attention."""
    time_conditioning: TimeConditioning = field(default_factory=TimeToken)
    """How the time is told; `NoTimeConditioning` for a network that sees no state, either."""
    position_encoding: PositionEncoding = field(default_factory=ALiBi)
    """How attention knows how far frames are apart."""
    group_size: int = 1
    """Labels behind the first come in groups of so many that are alike, as a phone in places of a word; see
    `GroupedEmbedding`."""
    conv_channels: int = 0
    """Channels of convolutions beside the transformer, which look at the state as at a picture; see `ConvResidual`."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.group_size) < 1:
            raise UsageError("width, depth, heads and kin of 1 or more", self)
        if self.conv_channels < 0 or (self.conv_channels and not self.time_conditioning.uses_time):
            raise UsageError("local of 0 or more channels, and 0 where no state is seen", self.conv_channels)
        if self.width % (2 * self.heads):
            raise UsageError(f"a width that twice the {self.heads} heads divides", self.width)

    @classmethod
    def from_size(
        cls,
        size: int,
        time_conditioning: TimeConditioning | None = None,
        position_encoding: PositionEncoding | None = None,
        group_size: int = 1,
        conv_channels: int = 0,
    ) -> "FrameInfiller":
        """Return one whose size one number says: so many blocks and heads, and 32 features for each.

        It has about 14,000 dial^3 weights: 0.4, 1.0 and 3.0 million at 3, 4 and 6.
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

    def build(self, shape: State, conditions: dict[str, int], rng: Rng) -> "FrameInfillerNetwork":
        """Make a network with new weights, for frames (n, bands) with one condition, `phone`."""
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise UsageError(
                "FrameInfiller expects frames of shape (n, bands)", found=shape, remedy="Use UNet for images"
            )
        if conditions.keys() != {"phone"}:
            got = ", ".join(sorted(conditions)) or "none"
            raise UsageError(f"FrameInfiller expects one condition, phone, the number of labels of frames; found {got}")
        with seeded_init(rng):
            return FrameInfillerNetwork(self, shape[1], conditions["phone"])


class FrameInfillerNetwork(nn.Module):
    """The network of `FrameInfiller`."""

    def __init__(self, config: FrameInfiller, bands: int, phones: int) -> None:
        super().__init__()
        width, self.uses_time = config.width, config.time_conditioning.uses_time
        self.null_values: dict[str, int | float] = {"phone": phones, "context": 0.0, "known": 0}
        """What stands for "not given"; the label has an embedding of its own."""
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
        """Predict one number per band of each frame; zero for padding.

        Raises:
            KeyError: If labels or context are missing.
        """
        if not {"phone", "context"} <= cond.keys():
            raise KeyError(
                f"expected phone [b, n] and context [b, n, bands], got {', '.join(sorted(cond)) or 'none'}; give a"
                " context of zeros where nothing is kept"
            )
        phone, context, valid = cond["phone"], cond["context"], cond.get("valid")
        observed = cond.get("known", torch.zeros_like(phone, dtype=torch.bool))[:, :, None].to(context.dtype)
        inputs = [
            part.to(self.embed.weight.dtype)
            for part in ([x_t, context, observed] if self.uses_time else [context, observed])
        ]
        if valid is not None:
            inputs = [torch.where(valid[:, :, None], part, 0.0) for part in inputs]
            phone = torch.where(valid, phone, self.null_values["phone"])
        h = self.embed(torch.cat([*inputs, self.phone_embed(phone)], 2))
        output = self.head(self.transformer(h, t, valid))
        if self.conv_residual is not None:
            output = output + self.conv_residual(inputs[0], inputs[1], t, valid)
        return output if valid is None else output * valid[:, :, None]
