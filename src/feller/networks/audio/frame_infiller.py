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
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import fourier, zero
from feller.networks.blocks.relative_positions import ALiBi, Distance
from feller.networks.blocks.time_conditioning import Clock, TimeToken


class Kin(nn.Module):
    """Embeds labels that come in groups, as a phone comes in the four places of a word.

    Kin share an embedding, to which each adds its own, which is zero at first: a label that training hardly has is
    taken for one of its kin. The first label and "not given", behind the last, have no kin.
    """

    def __init__(self, labels: int, size: int, width: int) -> None:
        """Make embeddings of so many features, for groups of so many labels."""
        super().__init__()
        self.labels, self.size = labels, size
        self.shared = nn.Embedding(2 + -(-(labels - 1) // size), width)
        self.own = zero(nn.Embedding(labels + 1, width))

    def forward(self, label: Int64[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Embed labels, and `labels` itself as "not given"."""
        group = (label + self.size - 1) // self.size
        group = group.masked_fill(label == self.labels, self.shared.num_embeddings - 1)
        return self.shared(group) + self.own(label)


OCTAVES = 8
"""Of the time."""


class Local(nn.Module):
    """Two convolutions over frames and bands that add to the answer of a network; zero until they have learned.

    The noise in a state is as wide as the state, so that a network with few features for each frame can hardly carry
    it. Most of it can be told from the nearest frames and bands, once the time says how much there is: that is done
    here, and the features of the network are left to what needs more context.
    """

    def __init__(self, bands: int, channels: int) -> None:
        """Make convolutions with so many channels between them."""
        super().__init__()
        self.first = nn.Conv2d(2, channels, 5, padding=2)
        self.clock = nn.Linear(2 * OCTAVES, 2 * channels)
        self.second = zero(nn.Conv2d(channels, 1, 3, padding=1))
        self.share = zero(nn.Linear(2 * OCTAVES, bands))

    def forward(
        self,
        x_t: Float[Tensor, "b n bands"],
        context: Float[Tensor, "b n bands"],
        t: Float[Tensor, " b"],
        valid: Bool[Tensor, "b n"] | None,
    ) -> Float[Tensor, "b n bands"]:
        """Return what is added; state and context are zero where frames are padding."""
        times = fourier(t.to(x_t.dtype), OCTAVES)
        scale, shift = self.clock(times)[:, :, None, None].chunk(2, 1)
        seen = F.gelu(self.first(torch.stack([x_t, context], 1)) * (1 + scale) + shift, approximate="tanh")
        if valid is not None:
            seen = torch.where(valid[:, None, :, None], seen, 0.0)
        return self.second(seen)[:, 0] + self.share(times)[:, None] * x_t


REACH = 31
"""Frames that the convolution before the first block sees."""
GROUPS = 16
"""Groups of features that it keeps apart, or as many as divide the width."""


class Folded(nn.Module):
    """Blocks of attention; block i from the end also reads what block i from the beginning said.

    A convolution tells each frame where it is among its neighbours. Padding changes nothing. Source: Le et al. 2023,
    "Voicebox", arXiv 2306.15687; the convolution is that of Baevski et al. 2020, "wav2vec 2.0", arXiv
    2006.11477. A joint starts as the identity of the later features.
    """

    def __init__(self, width: int, depth: int, heads: int, clock: Clock, distance: Distance) -> None:
        super().__init__()
        self.heads, self.distance = heads, distance
        self.near = nn.Conv1d(width, width, REACH, groups=math.gcd(width, GROUPS))
        self.clock = clock.enter(width)
        self.blocks = nn.ModuleList(clock.block(width, heads) for _ in range(depth))
        self.joints = nn.ModuleList(zero(nn.Linear(2 * width, width)) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, h: Float[Tensor, "b n width"], t: Float[Tensor, " b"], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Return the features of each frame."""
        h = h + self._neighbours(h, valid)
        tokens, vector = self.clock(t)
        many = tokens.shape[1]
        h = torch.cat([tokens.to(h.dtype), h], 1)
        attend = self.distance.attend(_seen(valid, many), h, self.heads, many)
        half, rest, early = len(self.joints), len(self.blocks) - len(self.joints), []
        for i, block in enumerate(self.blocks):
            if i >= rest:
                h = h + self.joints[i - rest](torch.cat([h, early.pop()], 2))
            h = block(h, vector.to(h.dtype), attend)
            if i < half:
                early.append(h)
        return self.norm(h[:, many:])

    def _neighbours(
        self, h: Float[Tensor, "b n width"], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Return what the frames around each say; padding says nothing."""
        seen = h if valid is None else h * valid[:, :, None]
        weight, sides = self.near.weight[:, :, None], (0, REACH // 2)
        # torch's convolution in two dimensions is faster than its own in one
        y = F.conv2d(seen.mT[:, :, None], weight, self.near.bias, padding=sides, groups=self.near.groups)
        return F.gelu(y[:, :, 0].mT, approximate="tanh")


def _seen(valid: Bool[Tensor, "b n"] | None, tokens: int) -> Bool[Tensor, "b places"] | None:
    """Return the places that attention sees: tokens and frames, or all where there is none of either."""
    if valid is None:
        return None
    some = valid | ~valid.any(1, keepdim=True)
    return F.pad(some, (tokens, 0), value=True)


HEAD = 32
"""Features of a head, and features for each block, where one number says the size."""


@dataclass(frozen=True)
class Infiller(Architecture):
    """Each frame is the state, the context and a label; a folded transformer looks at all of them.

    A frame is a slice of a spectrogram and its label a phone, or a frame is a phone and the state how long it lasts.
    `given["phone"]` [b, n] holds labels; `given["context"]` [b, n, bands] what is kept, zero elsewhere, and
    `given["known"]` [b, n] marks what that is (absent: nothing); `given["valid"]` [b, n] marks what is no padding.
    `nulls` names all that guidance leaves out together. Other than in the paper, the network sees `known`: a context
    that is truly zero is no gap. Source: Le et al. 2023, "Voicebox: Text-guided multilingual universal speech
    generation at scale", arXiv 2306.15687.
    """

    width: int = 128
    """Features of each frame, and of each label."""
    depth: int = 4
    """Blocks of attention."""
    heads: int = 4
    """Heads of the attention."""
    clock: Clock = field(default_factory=TimeToken)
    """How the time is told; `NoTime` for a network that sees no state, either."""
    distance: Distance = field(default_factory=ALiBi)
    """How attention knows how far frames are apart."""
    kin: int = 1
    """Labels behind the first come in groups of so many that are alike, as a phone in places of a word; see `Kin`."""
    local: int = 0
    """Channels of convolutions beside the transformer, which look at the state as at a picture; see `Local`."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.kin) < 1:
            raise UsageError("width, depth, heads and kin of 1 or more", self)
        if self.local < 0 or (self.local and not self.clock.ticks):
            raise UsageError("local of 0 or more channels, and 0 where no state is seen", self.local)
        if self.width % (2 * self.heads):
            raise UsageError(f"a width that twice the {self.heads} heads divides", self.width)

    @classmethod
    def sized(
        cls, dial: int, clock: Clock | None = None, distance: Distance | None = None, kin: int = 1, local: int = 0
    ) -> "Infiller":
        """Return one whose size one number says: so many blocks and heads, and 32 features for each.

        It has about 14,000 dial^3 weights: 0.4, 1.0 and 3.0 million at 3, 4 and 6.
        """
        return cls(HEAD * dial, dial, dial, clock or TimeToken(), distance or ALiBi(), kin, local)

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "InfillerNetwork":
        """Make a network with new weights, for frames (n, bands) with one condition, `phone`."""
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise UsageError("Infiller expects frames of shape (n, bands)", found=shape, remedy="Use UNet for images")
        if conditions.keys() != {"phone"}:
            got = ", ".join(sorted(conditions)) or "none"
            raise UsageError(f"Infiller expects one condition, phone, the number of labels of frames; found {got}")
        with weights_from(draws):
            return InfillerNetwork(self, shape[1], conditions["phone"])


class InfillerNetwork(nn.Module):
    """The network of `Infiller`."""

    def __init__(self, settings: Infiller, bands: int, phones: int) -> None:
        super().__init__()
        width, self.ticks = settings.width, settings.clock.ticks
        self.nulls: dict[str, int | float] = {"phone": phones, "context": 0.0, "known": 0}
        """What stands for "not given"; the label has an embedding of its own."""
        self.phones = nn.Embedding(phones + 1, width) if settings.kin == 1 else Kin(phones, settings.kin, width)
        self.enter = nn.Linear((1 + self.ticks) * bands + 1 + width, width)
        self.body = Folded(width, settings.depth, settings.heads, settings.clock, settings.distance)
        self.leave = zero(nn.Linear(width, bands))
        self.local = Local(bands, settings.local) if settings.local else None

    def forward(
        self, x_t: Float[Tensor, "b n bands"], t: Float[Tensor, " b"], given: Cond
    ) -> Float[Tensor, "b n bands"]:
        """Predict one number per band of each frame; zero for padding.

        Raises:
            KeyError: If labels or context are missing.
        """
        if not {"phone", "context"} <= given.keys():
            raise KeyError(
                f"expected phone [b, n] and context [b, n, bands], got {', '.join(sorted(given)) or 'none'}; give a"
                " context of zeros where nothing is kept"
            )
        phone, context, valid = given["phone"], given["context"], given.get("valid")
        known = given.get("known", torch.zeros_like(phone, dtype=torch.bool))[:, :, None].to(context.dtype)
        seen = [
            part.to(self.enter.weight.dtype) for part in ([x_t, context, known] if self.ticks else [context, known])
        ]
        if valid is not None:
            seen = [torch.where(valid[:, :, None], part, 0.0) for part in seen]
            phone = torch.where(valid, phone, self.nulls["phone"])
        h = self.enter(torch.cat([*seen, self.phones(phone)], 2))
        answer = self.leave(self.body(h, t, valid))
        if self.local is not None:
            answer = answer + self.local(seen[0], seen[1], t, valid)
        return answer if valid is None else answer * valid[:, :, None]
