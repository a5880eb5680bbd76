"""Chains of clips of one speaker: utterances with exact word boundaries."""

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

MIN_CLIPS, MAX_CLIPS = 2, 6
"""Minimum and maximum number of clips in a chain."""
POOL_SIZE = 8
"""Batches per pool; a pool is sorted by length, so that each batch needs little padding."""


@dataclass(frozen=True, eq=False)
class ChainBatch:
    """Batch of chains, padded to one length."""

    x: Float[Tensor, "b n bands"]
    """Log mels."""
    valid: Bool[Tensor, "b n"]
    phone: Int64[Tensor, "b m"]
    duration: Int64[Tensor, "b m"]
    """In frames."""
    phone_valid: Bool[Tensor, "b m"]
    """False at padding."""
    word: Int64[Tensor, "b m"]
    """Index of the word of each phone, from 0; -1 for silences and padding."""
    digit: Int64[Tensor, "b words"]
    """Digit of each word; -1 is padding."""
    speaker: Int64[Tensor, " b"]

    @property
    def frame_phone(self) -> Int64[Tensor, "b n"]:
        """Phone of each frame."""
        return repeat_by_duration(self.phone, self.duration, self.x.shape[1])

    @property
    def start(self) -> Bool[Tensor, "b n"]:
        """True at the first frame of each phone."""
        starts = self.duration.cumsum(1) - self.duration
        marks = torch.zeros(len(self.x), self.x.shape[1] + 1, dtype=torch.bool)
        marks.scatter_(1, starts.where(self.duration > 0, self.x.shape[1]), True)
        return marks[:, :-1]

    def frame_batch(self) -> Batch:
        """Return a training batch for frame infilling."""
        return {"x_1": self.x, "given": {"phone": self.frame_phone, "valid": self.valid, "start": self.start}}

    def duration_batch(self) -> Batch:
        """Return a training batch for duration infilling."""
        return {"x_1": self.duration, "given": {"phone": self.phone, "valid": self.phone_valid}}


def concatenate_clips(chains: Sequence[Sequence[Clip]]) -> ChainBatch:
    """Return the clips of each chain concatenated, with adjacent silences merged."""
    layouts = [_phone_layout(chain) for chain in chains]
    phone, duration, word = (pad_sequence(list(part), batch_first=True) for part in zip(*layouts, strict=True))
    phone_valid = pad_sequence([torch.ones_like(layout[0], dtype=torch.bool) for layout in layouts], batch_first=True)
    mels = [torch.cat([clip.mel for clip in chain]) for chain in chains]
    digits = [torch.tensor([clip.digit for clip in chain]) for chain in chains]
    return ChainBatch(
        pad_sequence(mels, batch_first=True),
        pad_sequence([torch.ones(len(mel), dtype=torch.bool) for mel in mels], batch_first=True),
        phone,
        duration,
        phone_valid,
        word.where(phone_valid, -1),
        pad_sequence(digits, batch_first=True, padding_value=-1),
        torch.tensor([chain[0].speaker for chain in chains]),
    )


def _phone_layout(chain: Sequence[Clip]) -> tuple[Tensor, Tensor, Tensor]:
    """Return phones, durations and word indices, with adjacent silences merged."""
    phone, duration = [chain[0].phone[:1]], [chain[0].duration[:1].clone()]
    word = [torch.tensor([-1])]
    for i, clip in enumerate(chain):
        if i:
            duration[-1][-1] += clip.duration[0]
        phone.append(clip.phone[1:])
        duration.append(clip.duration[1:].clone())
        word.append(torch.tensor([*[i] * (len(clip.phone) - 2), -1]))
    return torch.cat(phone), torch.cat(duration), torch.cat(word)


def sample_chains(
    clips: Sequence[Clip], n: int, rng: Rng, *, min_clips: int = MIN_CLIPS, max_clips: int = MAX_CLIPS
) -> list[tuple[Clip, ...]]:
    """Return random chains, each of clips of one speaker, sampled with replacement."""
    by_speaker = [
        [clip for clip in clips if clip.speaker == speaker]
        for speaker in range(1 + max(clip.speaker for clip in clips))
    ]
    by_speaker = [speaker_clips for speaker_clips in by_speaker if speaker_clips]
    u = rng.stream("chains").uniform((n, 2 + max_clips), torch.float64).tolist()
    chains = []
    for speaker_share, length_share, *clip_shares in u:
        speaker_clips = by_speaker[int(speaker_share * len(by_speaker))]
        chains.append(
            tuple(
                speaker_clips[int(v * len(speaker_clips))]
                for v in clip_shares[: min_clips + int(length_share * (max_clips - min_clips + 1))]
            )
        )
    return chains


def make_batch_fn(
    clips: Sequence[Clip], size: int, rng: Rng, to_batch: Callable[[ChainBatch], Batch] = ChainBatch.frame_batch
) -> Callable[[int, slice], Batch]:
    """Return (step, rows) -> batch of chains of similar length: a uniformly random batch of a sorted pool."""

    def get_batch(step: int, rows: slice) -> Batch:
        step_rng = rng.fold_in("step", step)
        pool = sorted(
            sample_chains(clips, POOL_SIZE * size, step_rng), key=lambda chain: sum(len(clip.mel) for clip in chain)
        )
        first = size * int(step_rng.stream("which").randint(POOL_SIZE, (1,)))
        return to_batch(concatenate_clips(pool[first : first + size][rows]))

    return get_batch
