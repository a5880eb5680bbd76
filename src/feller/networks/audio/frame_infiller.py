"""Transformer that fills in frames from those around them, and from what is said in each."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import Given, State
from feller.core.rng import Draws
from feller.networks.architecture import Architecture, weights_from
from feller.networks.audio.folded import Folded
from feller.networks.audio.kin import Kin
from feller.networks.audio.local import Local
from feller.networks.blocks.conditioning import zero
from feller.networks.blocks.distance import ALiBi, Distance
from feller.networks.blocks.time_conditioning import Clock, TimeToken

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
            raise UsageError(f"expected width, depth, heads and kin of 1 or more, got {self}")
        if self.local < 0 or (self.local and not self.clock.ticks):
            raise UsageError(f"expected local of 0 or more channels, and 0 where no state is seen, got {self.local}")
        if self.width % (2 * self.heads):
            raise UsageError(f"expected a width that twice the {self.heads} heads divides, got {self.width}")

    @classmethod
    def sized(
        cls, dial: int, clock: Clock | None = None, distance: Distance | None = None, kin: int = 1, local: int = 0
    ) -> "Infiller":
        """Return one whose size one number says: so many blocks and heads, and 32 features for each.

        It has about 14,000 dial^3 weights: 0.4, 1.0 and 3.0 million at 3, 4 and 6.
        """
        return cls(HEAD * dial, dial, dial, clock or TimeToken(), distance or ALiBi(), kin, local)

    def build(self, shape: State, conditions: dict[str, int], draws: Draws) -> "InfillerNetwork":
        """Make a network with new weights, for frames (n, bands) with one condition, `phone`.

        Raises:
            UsageError: If the states are no rows of frames, or there are other conditions.
        """
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise UsageError(f"Infiller expects frames of shape (n, bands), got {shape}; use UNet for images")
        if conditions.keys() != {"phone"}:
            got = ", ".join(sorted(conditions)) or "none"
            raise UsageError(f"Infiller expects one condition, phone, the number of labels of frames; got {got}")
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
        self, x_t: Float[Tensor, "b n bands"], t: Float[Tensor, " b"], given: Given
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
