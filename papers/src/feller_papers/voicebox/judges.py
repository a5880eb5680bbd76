"""Who listens to digits: one small network tells what is said, another who says it.

Their features give a distance and a similarity of their own, which mean nothing to other judges.
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
from feller_papers.voicebox.chains import drawn_chains, joined
from feller_papers.voicebox.digits import NAMES, Clip, Digits
from feller_papers.voicebox.pieces import Pieces, counts, parts_in, words_in

FEATURES = 32
"""Numbers that stand for a piece."""
TRAINING = TrainConfig(batch_size=64, lr=2e-3, warmup=50, lr_decay_fraction=0.7, weight_decay=1e-2, ema_decay=0.0)
WORDS = 3
"""Words that tell who speaks, at most."""
CHUNK = 256
"""Pieces that go through a network at once."""


class Listener(nn.Module):
    """Convolutions over time; what they say at the beginning, in the middle, at the end, and loudest, is one answer."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        sizes = ((bands, 64, 1), (64, 96, 2), (96, 96, 2))
        self.steps = [step for _, _, step in sizes]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, step, padding=2) for a, b, step in sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(1, b) for _, b, _ in sizes)
        self.features = nn.Linear(4 * sizes[-1][1], FEATURES)
        self.answer = nn.Linear(FEATURES, classes)

    def see(self, x: Float[Tensor, "b l bands"], valid: Bool[Tensor, "b l"]) -> Float[Tensor, "b f"]:
        """Return the features of each piece; padding changes nothing but the norm."""
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
        return self.answer(F.silu(self.see(x, valid)))


@dataclass(frozen=True)
class Tell(Objective):
    """Tell the class of pieces that are made a little faster or slower, louder, duller and noisier, with stripes."""

    noise: float = 0.3
    """Deviation of what is added to each log mel, at most; those of a level and a tilt of all frames, too."""
    stripe: int = 6
    """Bands, and frames, that are hidden, at most."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Draw what is done to the pieces."""
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
        """Return -log of the probability of the right class."""
        logits = network(example["x"], example["valid"])
        return F.cross_entropy(logits, example["answer"], reduction="none", label_smoothing=0.05)


@dataclass(frozen=True, eq=False)
class Judge:
    """A listener that has learned."""

    network: Listener

    @torch.no_grad()
    def features(self, pieces: Pieces) -> Float64[Tensor, "n f"]:
        """Return the numbers that stand for each piece."""
        parts = zip(pieces.x.split(CHUNK), pieces.valid.split(CHUNK), strict=True)
        return torch.cat([self.network.see(x, valid) for x, valid in parts]).double()

    @torch.no_grad()
    def right(self, pieces: Pieces, answer: Int64[Tensor, " n"]) -> float:
        """Return the share of pieces of which it tells the class."""
        logits = self.network.answer(F.silu(self.features(pieces).float()))
        return torch.eq(logits.argmax(1), answer).double().mean().item()

    def distance(self, pieces: Pieces, real: Pieces) -> float:
        """Return 100 times the Fréchet distance of the features, in units of the variance of the real ones."""
        return fd_cnn(self.features(pieces), self.features(real)) or 0.0

    def alike(self, pieces: Pieces, others: Pieces) -> Float64[Tensor, " n"]:
        """Return the cosine of the features of pieces and others, pair by pair."""
        return F.cosine_similarity(self.features(pieces), self.features(others))


@dataclass(frozen=True)
class Judges:
    """Both."""

    digit: Judge
    speaker: Judge


def train_judge(
    classes: int,
    feed: Callable[[int, slice], Batch],
    steps: int,
    draws: Rng,
    bands: int,
    training: TrainConfig = TRAINING,
) -> Judge:
    """Train a listener on pieces `x_1` with `valid` and `answer`."""
    with seeded_init(draws):
        network = Listener(bands, classes)
    training = replace(training, steps=steps)
    learner = make_train_state(network, training)
    for _ in train(learner, Tell(), feed, training, rng=draws, engine=get_engine()):
        pass
    return Judge(network.eval().requires_grad_(False))


def train_judges(digits: Digits, steps: int, draws: Rng) -> Judges:
    """Train both on real clips."""
    clips, bands = digits.train, digits.train[0].mel.shape[1]
    words = alone(clips)
    answer = torch.tensor([clip.digit for clip in clips])
    digit = train_judge(len(NAMES), picked(words, answer, draws.fold_in("digit")), steps, draws.fold_in("digit"), bands)
    speaker = train_judge(
        len(digits.speakers), _voices(clips, draws.fold_in("speaker")), steps // 2, draws.fold_in("speaker"), bands
    )
    return Judges(digit, speaker)


def alone(clips: tuple[Clip, ...]) -> Pieces:
    """Return the word of each clip."""
    rows = joined([(clip,) for clip in clips])
    return words_in(rows.x, rows.duration, rows.word, rows.digit >= 0)


def picked(pieces: Pieces, answer: Int64[Tensor, " n"], draws: Rng) -> Callable[[int, slice], Batch]:
    """Return what gives each step pieces that are drawn with replacement."""

    def at(step: int, rows: slice) -> Batch:
        which = draws.stream("pick", step).randint(len(answer), (TRAINING.batch_size,))[rows]
        valid = pieces.valid[which]
        n = int(valid.sum(1).max())
        return {"x_1": pieces.x[which, :n], "valid": valid[:, :n], "answer": answer[which]}

    return at


def _voices(clips: tuple[Clip, ...], draws: Rng) -> Callable[[int, slice], Batch]:
    def at(step: int, rows: slice) -> Batch:
        chains = joined(drawn_chains(clips, TRAINING.batch_size, draws.fold_in(step), fewest=1, most=WORDS)[rows])
        many = counts(chains.digit)
        pieces = parts_in(chains.x, chains.duration, chains.word, [0] * len(many), [n - 1 for n in many])
        return {"x_1": pieces.x, "valid": pieces.valid, "answer": chains.speaker}

    return at
