"""Budget of the experiments on models of text and pictures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """Budget of the experiments."""

    seeds: tuple[int, ...] = (0, 1, 2)
    side: int = 16
    """Side of all pictures, in pixels."""
    num_head_creatures: int = 1250
    """Creatures in the training data: too many to memorise."""
    num_tail_creatures: int = 100
    """Creatures only in the retrieval memory."""
    num_scenes: int = 5000
    """Training pairs of a caption and a scene."""
    num_instructions: int = 8000
    """Training documents for instruction tuning."""
    dials: tuple[int, int, int] = (1, 2, 3)
    """Sizes of the decoder; the middle one is the default."""
    batch_size: int = 16
    """Documents per step."""
    steps: int = 4500
    """Training steps of each decoder."""
    tuning_steps: int = 8000
    """Steps of instruction tuning."""
    retriever_steps: int = 300
    """Training steps of the retriever."""
    judge_steps: int = 600
    """Training steps of the scene classifier."""
    num_test_documents: int = 256
    """Test documents of each type."""
    num_test_instructions: int = 2048
    """Test instructions, over all tasks."""
    num_images: int = 256
    """Pictures per FD-cnn."""
    guidance_weights: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0, 7.0)
    contrastive_ks: tuple[int, ...] = (1, 4, 8, 16, 32)
    """k of contrastive decoding."""
    best_of: int = 8
    """Candidates per picture for reranking."""
    num_prompts: int = 32
    """Prompts with several samples each."""
    num_workers: int | None = None
    """Training processes, by default one per core; 1 trains in this process."""

    @property
    def dial(self) -> int:
        """Default size."""
        return self.dials[1]


QUICK = Setting(
    seeds=(0,),
    num_instructions=4000,
    tuning_steps=4000,
    num_test_documents=128,
    num_test_instructions=1024,
    num_images=128,
    best_of=4,
    num_prompts=16,
)
"""One seed, fewer pictures, and half the tuning: within an hour of one processor core."""
