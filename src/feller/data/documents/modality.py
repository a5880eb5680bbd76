"""Tasks of unequal size, brought nearer to equal shares."""

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Draws


def balanced(tasks: Int64[Tensor, " n"], draws: Draws, *, most: float = 3.0, least: float = 0.3) -> Int64[Tensor, " m"]:
    """Return numbers of documents, in order, of which those of small tasks come again and some of large ones never.

    Each task comes n / tasks / (its documents) times as often as before, which would make all alike, but no more than
    `most` times and no less than `least`. How often a task comes is exact, up to rounding; which of its documents come
    once more is drawn, and which come at all. Source: Yu et al. 2023, arXiv 2309.02591, section 4.

    Args:
        tasks: Number of the task of each document.
        draws: Source of the choice.
        most: Factor by which a small task may grow.
        least: Factor to which a large task may shrink.

    Raises:
        UsageError: If the factors do not lie around 1.
    """
    if not 0 < least <= 1 <= most:
        raise UsageError(f"expected factors around 1, at least 1 and at most 1, got {most:g} and {least:g}")
    names, counts = tasks.unique(return_counts=True)
    keys = draws.at("balance").uniform((len(tasks),), torch.float64, tasks.device)
    found = []
    for name, count in zip(names.tolist(), counts.tolist(), strict=True):
        factor = min(most, max(least, len(tasks) / len(names) / count))
        which = (tasks == name).nonzero()[:, 0]
        times, more = divmod(max(1, round(factor * count)), count)
        once_more = which[keys[which].argsort()[:more]]
        found += [which.repeat(times), once_more]
    return torch.cat(found).sort().values if found else tasks
