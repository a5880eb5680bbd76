"""Chains of clips of one speaker: utterances whose words have exact places."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.core.rng import Rng
from feller.data.speech.phones import repeat_by_duration
from feller.training.objective import Batch
from feller_papers.voicebox.digits import Clip

FEWEST, MOST = 2, 6
"""Clips of a chain."""
POOL = 8
"""Batches that are drawn together, so that one can be taken whose chains are of like length."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Chains, padded to one length."""

    x: Float[Tensor, "b n bands"]
    """Log mels."""
    valid: Bool[Tensor, "b n"]
    phone: Int64[Tensor, "b m"]
    duration: Int64[Tensor, "b m"]
    """In frames."""
    real: Bool[Tensor, "b m"]
    """Marks phones that are no padding."""
    word: Int64[Tensor, "b m"]
    """Which word each phone belongs to, counted from 0; -1 for silences and padding."""
    digit: Int64[Tensor, "b words"]
    """What is said; -1 is padding."""
    speaker: Int64[Tensor, " b"]

    @property
    def label(self) -> Int64[Tensor, "b n"]:
        """The phone of each frame."""
        return repeat_by_duration(self.phone, self.duration, self.x.shape[1])

    @property
    def start(self) -> Bool[Tensor, "b n"]:
        """Mark the frames in which a phone begins."""
        begins = self.duration.cumsum(1) - self.duration
        marks = torch.zeros(len(self.x), self.x.shape[1] + 1, dtype=torch.bool)
        marks.scatter_(1, begins.where(self.duration > 0, self.x.shape[1]), True)
        return marks[:, :-1]

    def batch(self) -> Batch:
        """Return what the infilling of frames is trained on."""
        return {"x_1": self.x, "given": {"phone": self.label, "valid": self.valid, "start": self.start}}

    def durations(self) -> Batch:
        """Return what the infilling of durations is trained on."""
        return {"x_1": self.duration, "given": {"phone": self.phone, "valid": self.real}}


def joined(chains: Sequence[Sequence[Clip]]) -> Rows:
    """Put the clips of each chain one after the other; silences that meet become one."""
    layouts = [_joined(chain) for chain in chains]
    phone, duration, word = (pad_sequence(list(part), batch_first=True) for part in zip(*layouts, strict=True))
    real = pad_sequence([torch.ones_like(row[0], dtype=torch.bool) for row in layouts], batch_first=True)
    mels = [torch.cat([clip.mel for clip in chain]) for chain in chains]
    digits = [torch.tensor([clip.digit for clip in chain]) for chain in chains]
    return Rows(
        pad_sequence(mels, batch_first=True),
        pad_sequence([torch.ones(len(mel), dtype=torch.bool) for mel in mels], batch_first=True),
        phone,
        duration,
        real,
        word.where(real, -1),
        pad_sequence(digits, batch_first=True, padding_value=-1),
        torch.tensor([chain[0].speaker for chain in chains]),
    )


def _joined(chain: Sequence[Clip]) -> tuple[Tensor, Tensor, Tensor]:
    """Return phones, durations and words, without the first silence of all clips but one."""
    phone, duration = [chain[0].phone[:1]], [chain[0].duration[:1].clone()]
    word = [torch.tensor([-1])]
    for i, clip in enumerate(chain):
        if i:
            duration[-1][-1] += clip.duration[0]
        phone.append(clip.phone[1:])
        duration.append(clip.duration[1:].clone())
        word.append(torch.tensor([*[i] * (len(clip.phone) - 2), -1]))
    return torch.cat(phone), torch.cat(duration), torch.cat(word)


def drawn_chains(
    clips: Sequence[Clip], n: int, draws: Rng, *, fewest: int = FEWEST, most: int = MOST
) -> list[tuple[Clip, ...]]:
    """Draw chains, each of clips of one speaker, drawn with replacement."""
    by = [[clip for clip in clips if clip.speaker == s] for s in range(1 + max(clip.speaker for clip in clips))]
    by = [some for some in by if some]
    u = draws.stream("chains").uniform((n, 2 + most), torch.float64).tolist()
    found = []
    for who, many, *which in u:
        own = by[int(who * len(by))]
        found.append(tuple(own[int(v * len(own))] for v in which[: fewest + int(many * (most - fewest + 1))]))
    return found


def feed(
    clips: Sequence[Clip], size: int, draws: Rng, batch: Callable[[Rows], Batch] = Rows.batch
) -> Callable[[int, slice], Batch]:
    """Return what gives each step new chains of like length: one batch of several that are sorted, each as likely."""

    def at(step: int, rows: slice) -> Batch:
        now = draws.fold_in("step", step)
        pool = sorted(drawn_chains(clips, POOL * size, now), key=lambda chain: sum(len(clip.mel) for clip in chain))
        first = size * int(now.stream("which").randint(POOL, (1,)))
        return batch(joined(pool[first : first + size][rows]))

    return at
