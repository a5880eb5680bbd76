"""How much is spent on the claims about texts and pictures in one model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    seeds: tuple[int, ...] = (0, 1, 2)
    side: int = 16
    """Pixels of a side of all pictures."""
    heads: int = 1250
    """Creatures of the training data: more than can be learned by heart."""
    tails: int = 100
    """Creatures that only the memory shows."""
    scenes: int = 5000
    """Pairs of a caption and a scene among the training data."""
    lessons: int = 8000
    """Documents that teach tasks."""
    dials: tuple[int, int, int] = (1, 2, 3)
    """Sizes of the decoder, of which the middle one is the usual."""
    batch: int = 16
    """Documents of a step."""
    steps: int = 4500
    """Of each decoder."""
    tuned: int = 8000
    """Steps of tuning on instructions."""
    finder: int = 300
    """Steps of what finds documents."""
    judge: int = 600
    """Steps of who looks at scenes."""
    asked: int = 256
    """Held-out documents of each kind that the models are asked about."""
    exams: int = 2048
    """Held-out lessons, the tasks in turn."""
    drawn: int = 256
    """Pictures for each distance."""
    weights: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0, 7.0)
    """Of guidance."""
    kept: tuple[int, ...] = (1, 4, 8, 16, 32)
    """k of contrastive decoding."""
    best_of: int = 8
    """Candidates for each picture, where the best is kept."""
    prompts: int = 32
    """For which several pictures are drawn."""
    workers: int | None = None
    """Processes in which decoders are trained side by side, by default one for each core; 1 trains them here."""

    @property
    def dial(self) -> int:
        """The usual size."""
        return self.dials[1]


QUICK = Setting(seeds=(0,), lessons=4000, tuned=4000, asked=128, exams=1024, drawn=128, best_of=4, prompts=16)
"""One seed, fewer pictures, and half the tuning: within an hour of one processor core."""
