"""How much is spent on the claims about speech."""

import pathlib
from dataclasses import dataclass, field

from feller.networks.audio.frame_infiller import FrameInfiller
from feller_papers.setting import file_of


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    data: pathlib.Path | None = None
    """Folder with the larger data sets; what is claimed of speech needs them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    takes: int | None = None
    """Read no later takes of the digits; None for all."""
    network: FrameInfiller = field(default_factory=lambda: FrameInfiller(96, 4, 4))
    """Fills in frames: half a million weights."""
    small: FrameInfiller = field(default_factory=lambda: FrameInfiller(64, 4, 4))
    """Fills in durations."""
    batch: int = 8
    """Chains of a step."""
    steps: int = 4000
    """Of the usual model: some 11 minutes of one processor core."""
    short: int = 1500
    """Of all models that are compared with each other."""
    lengths: int = 1500
    """Steps of models of durations."""
    judge: int = 800
    """Steps of who tells digits; half of them for who tells speakers."""
    listener: int = 500
    """Steps of who learns digits from what was generated."""
    chains: int = 40
    """Held-out chains that are filled in."""
    few: int = 24
    """Chains where what is asked takes long: with sounds, or several times."""
    calls: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Calls of the network for each sample."""
    weights: tuple[float, ...] = (1.0, 1.7, 2.0, 3.0)
    """Of guidance."""
    draws: int = 4
    """Samples of the same text, for diversity; and of durations."""
    made: int = 300
    """Chains that are generated to learn digits from."""
    kinds: tuple[str, ...] = ()
    """Models that are trained; empty for all."""
    workers: int | None = None
    """Processes that work side by side, by default one for each core; 1 works here."""

    @property
    def folder(self) -> pathlib.Path | None:
        """Where the digits are, if they are."""
        found = file_of(self.data, "speech", "fsdd", "alignments.jsonl")
        return None if found is None else found.parent
