"""Infilling of words in test chains, and metrics of the result."""

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
from feller_papers.voicebox.chains import ChainBatch, concatenate_clips, sample_chains
from feller_papers.voicebox.digits import Clip
from feller_papers.voicebox.judges import Judges
from feller_papers.voicebox.pieces import Segments, cut_segments, cut_words

PROMPT_WORDS, TARGET_WORDS = 2, 3
"""Words of the prompt, and target words after it."""
NFE = 8
"""Default number of network evaluations per sample."""
GUIDANCE_WEIGHT = 1.7
"""Default guidance weight; 0.7 in the notation of the paper."""


@dataclass(frozen=True, eq=False)
class InfillingTask:
    """Chains, and the words to infill."""

    rows: ChainBatch
    words: Bool[Tensor, "b words"]
    """True at target words, which are contiguous."""

    @property
    def hidden(self) -> Bool[Tensor, "b m"]:
        """True at target phones: those of target words, and silences without an adjacent context word."""
        word, last = self.rows.word, self.words.shape[1] - 1
        in_word = self.words.gather(1, word.clamp(0, last)) & (word >= 0)
        silence = (word < 0) & self.rows.phone_valid
        left_hidden = torch.cat([in_word[:, :1] | True, in_word[:, :-1]], 1)
        right_hidden = torch.cat([in_word[:, 1:], in_word[:, :1] | True], 1)
        at_end = torch.cat([~self.rows.phone_valid[:, 1:], torch.ones_like(in_word[:, :1])], 1)
        return in_word | (silence & left_hidden & (right_hidden | at_end))

    @property
    def context(self) -> Bool[Tensor, "b m"]:
        """True at context phones."""
        return self.rows.phone_valid & ~self.hidden

    @property
    def target_digits(self) -> Int64[Tensor, " n"]:
        """Digits of the target words."""
        return self.rows.digit[self.words]

    def with_durations(self, duration: Int64[Tensor, "b m"]) -> "InfillingTask":
        """Return the task with new durations of target phones; context frames are shifted."""
        rows = self.rows
        phone_index = repeat_by_duration(torch.arange(duration.shape[1]).expand_as(duration), duration)
        old_start, new_start = (d.cumsum(1) - d for d in (rows.duration, duration))
        place = torch.arange(phone_index.shape[1]) - new_start.gather(1, phone_index) + old_start.gather(1, phone_index)
        moved = rows.x.gather(1, place.clamp(0, rows.x.shape[1] - 1)[:, :, None].expand(-1, -1, rows.x.shape[2]))
        x = zero_invalid(moved, frames_of(self.context, duration, phone_index.shape[1]))
        valid = torch.arange(phone_index.shape[1]) < duration.sum(1, keepdim=True)
        return replace(self, rows=replace(rows, x=x, valid=valid, duration=duration))


def sample_task(
    clips: tuple[Clip, ...], n: int, rng: Rng, prompt: int = PROMPT_WORDS, targets: int = TARGET_WORDS
) -> InfillingTask:
    """Return random chains whose last words are the target."""
    num_words = prompt + targets
    rows = concatenate_clips(sample_chains(clips, n, rng, min_clips=num_words, max_clips=num_words))
    return InfillingTask(rows, (torch.arange(num_words) >= prompt).expand(n, -1))


def infill_words(
    network: Network,
    path: Affine | None,
    task: InfillingTask,
    rng: Rng,
    *,
    nfe: int = NFE,
    guidance: float = GUIDANCE_WEIGHT,
) -> Float[Tensor, "b n bands"]:
    """Return the log mels with target words infilled; regression is not guided."""
    rows = task.rows
    return infill(
        network,
        path,
        rows.x,
        frames_of(task.context, rows.duration, rows.x.shape[1]),
        rows.frame_phone,
        rng=rng,
        valid=rows.valid,
        sampling=SamplerConfig(nfe=nfe),
        guidance=1.0 if path is None else guidance,
    )


@dataclass(frozen=True)
class Metrics:
    """Metrics by the judges."""

    accuracy: float
    """Share of words classified as the right digit."""
    speaker_accuracy: float
    """Share of rows classified as the right speaker."""
    similarity: float
    """Mean cosine similarity of speaker features of the prompt and the infilled speech."""
    distance: float
    """Fréchet distance to words of real clips, on features of the digit classifier."""


def evaluate_infilling(
    judges: Judges, task: InfillingTask, x: Float[Tensor, "b n bands"], real: Segments, prompt: int = PROMPT_WORDS
) -> Metrics:
    """Return metrics of infilled speech.

    Args:
        judges: Classifiers of digits and speakers.
        task: Chains and target words.
        x: Infilled log mels.
        real: Words of real clips.
        prompt: Number of first words for the similarity; they may be real words outside the context.
    """
    rows = task.rows
    words = cut_words(x, rows.duration, rows.word, task.words)
    infilled = infilled_segments(task, x)
    prompts = cut_segments(rows.x, rows.duration, rows.word, [0] * len(x), [max(prompt, 1) - 1] * len(x))
    return Metrics(
        judges.digit.accuracy(words, task.target_digits),
        judges.speaker.accuracy(infilled, rows.speaker),
        judges.speaker.similarity(prompts, infilled).mean().item(),
        judges.digit.distance(words, real),
    )


def infilled_segments(task: InfillingTask, x: Float[Tensor, "b n bands"]) -> Segments:
    """Return the infilled frames of each row, from the first target word to the last."""
    rows = task.rows
    first = task.words.long().argmax(1)
    last = first + task.words.sum(1) - 1
    return cut_segments(x, rows.duration, rows.word, first.tolist(), last.tolist())
