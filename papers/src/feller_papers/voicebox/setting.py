"""Budget of the experiments on speech."""

import pathlib
from dataclasses import dataclass, field

from feller.networks.audio.frame_infiller import FrameInfiller
from feller_papers.setting import file_of


@dataclass(frozen=True)
class Setting:
    """Budget of the experiments."""

    data: pathlib.Path | None = None
    """Folder with the larger data sets, which the claims about speech need."""
    seeds: tuple[int, ...] = (0, 1, 2)
    max_takes: int | None = None
    """Number of takes of each digit and speaker to read; None for all."""
    network: FrameInfiller = field(default_factory=lambda: FrameInfiller(96, 4, 4))
    """Network of the frame models: half a million weights."""
    duration_network: FrameInfiller = field(default_factory=lambda: FrameInfiller(64, 4, 4))
    """Network of the duration models."""
    batch_size: int = 8
    """Chains per step."""
    steps: int = 4000
    """Training steps of the main model: some 11 minutes of one processor core."""
    comparison_steps: int = 1500
    """Training steps of models that are compared with each other."""
    duration_steps: int = 1500
    """Training steps of duration models."""
    judge_steps: int = 800
    """Training steps of the digit classifier; the speaker classifier gets half."""
    recogniser_steps: int = 500
    """Training steps of recognisers that are trained on generated digits."""
    num_chains: int = 40
    """Test chains to infill."""
    few_chains: int = 24
    """Test chains for slow evaluations: with waveforms, or with several samples per text."""
    nfes: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Network evaluations per sample."""
    guidance_weights: tuple[float, ...] = (1.0, 1.7, 2.0, 3.0)
    num_samples: int = 4
    """Samples per text, for diversity."""
    generated_chains: int = 300
    """Generated chains that recognisers are trained on."""
    models: tuple[str, ...] = ()
    """Models to train; empty for all."""
    num_workers: int | None = None
    """Training processes, by default one per core; 1 trains in this process."""

    @property
    def folder(self) -> pathlib.Path | None:
        """Folder of the digits, None if they are missing."""
        found = file_of(self.data, "speech", "fsdd", "alignments.jsonl")
        return None if found is None else found.parent
