"""Held-out chains of which some words are filled in, and what judges hear in them."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.pytree import zero_invalid
from feller.core.rng import Rng
from feller.data.speech.phones import frames_of, repeat_by_duration
from feller.models.infilling import infill
from feller.paths import Network
from feller.paths.affine import Affine
from feller.sampling.sampler_config import SamplerConfig
from feller_papers.voicebox.chains import Rows, drawn_chains, joined
from feller_papers.voicebox.digits import Clip
from feller_papers.voicebox.judges import Judges
from feller_papers.voicebox.pieces import Pieces, parts_in, words_in

PROMPT, ASKED = 2, 3
"""Words that are told, and those behind them that are filled in."""
CALLS = 8
"""Of the network for each sample, where nothing else is said."""
WEIGHT = 1.7
"""Of guidance, where nothing else is said; the paper writes 0.7."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Chains, and which of their words are to be filled in."""

    rows: Rows
    words: Bool[Tensor, "b words"]
    """Marks the words that are filled in; they follow each other."""

    @property
    def hidden(self) -> Bool[Tensor, "b m"]:
        """Mark the phones that are filled in: those of the words, and silences that no word beside them keeps."""
        word, last = self.rows.word, self.words.shape[1] - 1
        own = self.words.gather(1, word.clamp(0, last)) & (word >= 0)
        silent = (word < 0) & self.rows.real
        left = torch.cat([own[:, :1] | True, own[:, :-1]], 1)
        right = torch.cat([own[:, 1:], own[:, :1] | True], 1)
        ends = torch.cat([~self.rows.real[:, 1:], torch.ones_like(own[:, :1])], 1)
        return own | (silent & left & (right | ends))

    @property
    def kept(self) -> Bool[Tensor, "b m"]:
        """Mark the phones that are told."""
        return self.rows.real & ~self.hidden

    @property
    def said(self) -> Int64[Tensor, " n"]:
        """What is said in the words that are filled in."""
        return self.rows.digit[self.words]

    def lasting(self, duration: Int64[Tensor, "b m"]) -> "Asked":
        """Return the chains with other durations of what is hidden; what is kept moves to its new place."""
        rows = self.rows
        which = repeat_by_duration(torch.arange(duration.shape[1]).expand_as(duration), duration)
        old, new = (d.cumsum(1) - d for d in (rows.duration, duration))
        place = torch.arange(which.shape[1]) - new.gather(1, which) + old.gather(1, which)
        moved = rows.x.gather(1, place.clamp(0, rows.x.shape[1] - 1)[:, :, None].expand(-1, -1, rows.x.shape[2]))
        x = zero_invalid(moved, frames_of(self.kept, duration, which.shape[1]))
        valid = torch.arange(which.shape[1]) < duration.sum(1, keepdim=True)
        return replace(self, rows=replace(rows, x=x, valid=valid, duration=duration))


def asked(clips: tuple[Clip, ...], n: int, draws: Rng, prompt: int = PROMPT, words: int = ASKED) -> Asked:
    """Draw chains whose last words are to be filled in."""
    many = prompt + words
    rows = joined(drawn_chains(clips, n, draws, fewest=many, most=many))
    return Asked(rows, (torch.arange(many) >= prompt).expand(n, -1))


def filled(
    network: Network,
    path: Affine | None,
    some: Asked,
    draws: Rng,
    *,
    calls: int = CALLS,
    weight: float = WEIGHT,
) -> Float[Tensor, "b n bands"]:
    """Fill in the words that are asked for; regression needs no guidance."""
    rows = some.rows
    return infill(
        network,
        path,
        rows.x,
        frames_of(some.kept, rows.duration, rows.x.shape[1]),
        rows.label,
        rng=draws,
        valid=rows.valid,
        sampling=SamplerConfig(nfe=calls),
        guidance=1.0 if path is None else weight,
    )


@dataclass(frozen=True)
class Heard:
    """What judges hear."""

    accuracy: float
    """Share of words that are taken for the right digits."""
    voice: float
    """Share of rows that are taken for the right speaker."""
    alike: float
    """Mean cosine of what the listener to voices makes of the prompt and of what is filled in."""
    distance: float
    """Fréchet distance of words to those of real clips, by what the listener to digits makes of them."""


def heard(judges: Judges, some: Asked, x: Float[Tensor, "b n bands"], real: Pieces, prompt: int = PROMPT) -> Heard:
    """Listen to what was filled in.

    Args:
        judges: Listen.
        some: What was asked for.
        x: What came.
        real: Words of real clips.
        prompt: Words from the first on whose voice is compared; they may be real ones that were not told.
    """
    rows = some.rows
    words = words_in(x, rows.duration, rows.word, some.words)
    part = filled_part(some, x)
    first = parts_in(rows.x, rows.duration, rows.word, [0] * len(x), [max(prompt, 1) - 1] * len(x))
    return Heard(
        judges.digit.right(words, some.said),
        judges.speaker.right(part, rows.speaker),
        judges.speaker.alike(first, part).mean().item(),
        judges.digit.distance(words, real),
    )


def filled_part(some: Asked, x: Float[Tensor, "b n bands"]) -> Pieces:
    """Cut out what was filled in, from the first word to the last."""
    rows = some.rows
    first = some.words.long().argmax(1)
    last = first + some.words.sum(1) - 1
    return parts_in(x, rows.duration, rows.word, first.tolist(), last.tolist())
