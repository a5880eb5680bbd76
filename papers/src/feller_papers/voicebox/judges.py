"""Judges: small classifiers of digits and of speakers.

Their features give a distance and a similarity, which are not comparable with those of other networks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.rng import Rng
from feller.evaluation.image_metrics import fd_cnn
from feller.networks.network_config import seeded_init
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import TrainConfig
from feller_papers.voicebox.chains import concatenate_clips, sample_chains
from feller_papers.voicebox.digits import DIGIT_NAMES, Clip, Digits
from feller_papers.voicebox.pieces import Segments, cut_segments, cut_words, word_counts

FEATURES = 32
"""Feature dimension."""
TRAINING = TrainConfig(batch_size=64, lr=2e-3, warmup=50, lr_decay_fraction=0.7, weight_decay=1e-2, ema_decay=0.0)
MAX_WORDS = 3
"""Longest segment for the speaker classifier, in words."""
BATCH_SIZE = 256
"""Segments per forward pass."""


class Classifier(nn.Module):
    """Convolutions over time, pooled at the beginning, middle and end and by the maximum; one answer per segment."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        sizes = ((bands, 64, 1), (64, 96, 2), (96, 96, 2))
        self.steps = [step for _, _, step in sizes]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, step, padding=2) for a, b, step in sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(1, b) for _, b, _ in sizes)
        self.features = nn.Linear(4 * sizes[-1][1], FEATURES)
        self.answer = nn.Linear(FEATURES, classes)

    def embed(self, x: Float[Tensor, "b l bands"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b f"]:
        """Return the features of each segment; padding affects only the norm."""
        h = x.mT
        for layer, norm, step in zip(self.layers, self.norms, self.steps, strict=True):
            h = F.silu(norm(layer(h * valid[:, None])))
            valid = valid[:, ::step]
        place = (valid.cumsum(1) - 0.5) / valid.sum(1, keepdim=True)
        weights = [(1 - 2 * (place - centre).abs()).clamp(min=0) * valid for centre in (0.0, 0.5, 1.0)]
        pooled = [(h * w[:, None]).sum(2) / w.sum(1, keepdim=True).clamp(min=1e-6) for w in weights]
        loudest = h.masked_fill(~valid[:, None], -1e4).amax(2)
        return self.features(torch.cat([*pooled, loudest], 1))

    def forward(self, x: Float[Tensor, "b l bands"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b classes"]:
        """Return logits."""
        return self.answer(F.silu(self.embed(x, valid)))


@dataclass(frozen=True)
class AugmentedClassification(Objective):
    """Classification with augmentation: speed, level, tilt, noise, and masked stripes."""

    noise: float = 0.3
    """Largest standard deviation of the noise; also that of level and tilt."""
    stripe: int = 6
    """Largest number of masked bands, and of masked frames."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return augmented segments."""
        x, valid = batch["x_1"], batch["valid"]
        draw = rng.stream("augment")
        speed = 0.85 + 0.3 * float(rng.fold_in("speed").stream("speed").uniform((1,)))
        n = max(1, round(x.shape[1] / speed))
        x = F.interpolate(x.mT, n, mode="linear").mT
        valid = F.interpolate(valid[:, None].float(), n)[:, 0] > 0
        level, tilt = self.noise * draw.normal((2, len(x), 1, 1))
        slope = torch.linspace(-1, 1, x.shape[2])
        x = x + level + tilt * slope + self.noise * draw.uniform((len(x), 1, 1)) * draw.normal(x.shape)
        for axis in (1, 2):
            size = draw.randint(self.stripe + 1, (len(x), 1))
            first = (draw.uniform((len(x), 1)) * x.shape[axis]).long()
            place = torch.arange(x.shape[axis])
            hidden = (place >= first) & (place < first + size)
            x = x.masked_fill(hidden.unsqueeze(3 - axis), 0.0)
        return {"x": x, "valid": valid, "answer": batch["answer"]}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the cross-entropy."""
        logits = network(example["x"], example["valid"])
        return F.cross_entropy(logits, example["answer"], reduction="none", label_smoothing=0.05)


@dataclass(frozen=True, eq=False)
class Judge:
    """Trained classifier."""

    network: Classifier

    @torch.no_grad()
    def features(self, segments: Segments) -> Float64[Tensor, "n f"]:
        """Return the features of each segment."""
        parts = zip(segments.x.split(BATCH_SIZE), segments.valid.split(BATCH_SIZE), strict=True)
        return torch.cat([self.network.embed(x, valid) for x, valid in parts]).double()

    @torch.no_grad()
    def accuracy(self, segments: Segments, labels: Int64[Tensor, " n"]) -> float:
        """Return the share of segments classified correctly."""
        logits = self.network.answer(F.silu(self.features(segments).float()))
        return torch.eq(logits.argmax(1), labels).double().mean().item()

    def distance(self, segments: Segments, real: Segments) -> float:
        """Return 100 times the Fréchet distance of the features, in units of the variance of the real features."""
        return fd_cnn(self.features(segments), self.features(real)) or 0.0

    def similarity(self, segments: Segments, others: Segments) -> Float64[Tensor, " n"]:
        """Return the cosine similarity of the features, pair by pair."""
        return F.cosine_similarity(self.features(segments), self.features(others))


@dataclass(frozen=True)
class Judges:
    """Judges of digits and of speakers."""

    digit: Judge
    speaker: Judge


def train_judge(
    classes: int,
    feed: Callable[[int, slice], Batch],
    steps: int,
    rng: Rng,
    bands: int,
    training: TrainConfig = TRAINING,
) -> Judge:
    """Return a classifier, trained on segments `x_1` with `valid` and `answer`."""
    with seeded_init(rng):
        network = Classifier(bands, classes)
    training = replace(training, steps=steps)
    learner = make_train_state(network, training)
    for _ in train(learner, AugmentedClassification(), feed, training, rng=rng, engine=get_engine()):
        pass
    return Judge(network.eval().requires_grad_(False))


def train_judges(digits: Digits, steps: int, rng: Rng) -> Judges:
    """Return both judges, trained on real clips."""
    clips, bands = digits.train, digits.train[0].mel.shape[1]
    words = clip_words(clips)
    labels = torch.tensor([clip.digit for clip in clips])
    digit = train_judge(
        len(DIGIT_NAMES), resampling_batch_fn(words, labels, rng.fold_in("digit")), steps, rng.fold_in("digit"), bands
    )
    speaker = train_judge(
        len(digits.speakers),
        _speaker_batch_fn(clips, rng.fold_in("speaker")),
        steps // 2,
        rng.fold_in("speaker"),
        bands,
    )
    return Judges(digit, speaker)


def clip_words(clips: tuple[Clip, ...]) -> Segments:
    """Return the word of each clip as a segment."""
    rows = concatenate_clips([(clip,) for clip in clips])
    return cut_words(rows.x, rows.duration, rows.word, rows.digit >= 0)


def resampling_batch_fn(segments: Segments, labels: Int64[Tensor, " n"], rng: Rng) -> Callable[[int, slice], Batch]:
    """Return (step, rows) -> batch of segments, sampled with replacement."""

    def get_batch(step: int, rows: slice) -> Batch:
        index = rng.stream("pick", step).randint(len(labels), (TRAINING.batch_size,))[rows]
        valid = segments.valid[index]
        n = int(valid.sum(1).max())
        return {"x_1": segments.x[index, :n], "valid": valid[:, :n], "answer": labels[index]}

    return get_batch


def _speaker_batch_fn(clips: tuple[Clip, ...], rng: Rng) -> Callable[[int, slice], Batch]:
    def get_batch(step: int, rows: slice) -> Batch:
        chains = concatenate_clips(
            sample_chains(clips, TRAINING.batch_size, rng.fold_in(step), min_clips=1, max_clips=MAX_WORDS)[rows]
        )
        num_words = word_counts(chains.digit)
        segments = cut_segments(
            chains.x, chains.duration, chains.word, [0] * len(num_words), [n - 1 for n in num_words]
        )
        return {"x_1": segments.x, "valid": segments.valid, "answer": chains.speaker}

    return get_batch
