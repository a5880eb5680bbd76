"""The solver of edit paths: distribution with exact rates, and batches."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import EditFlow, EditPath, InsertionMasking
from feller.sampling import simulate
from feller.sampling.solvers.adaptive_edits import AdaptiveEdits
from feller.spaces import Sequences
from tests.paths.edits.exact import ExactPath, total_variation, unpadded

SPACE = Sequences(3, 5)
DATA = {(): 0.1, (0,): 0.2, (0, 0): 0.15, (1, 2): 0.1, (2, 1, 0): 0.15, (0, 1, 1, 2): 0.3}


def process(path: EditPath):
    network = ExactPath(path, {(): 1.0}, DATA).network()

    def on_grid(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return exact predictions at the nearest of 1,000 times, which are computed once each."""
        return network(x, ((t.double() * 1000).round() / 1000).clamp(max=0.999), cond)

    return path.process(on_grid, {})


@pytest.mark.parametrize("path", [EditFlow(space=SPACE), InsertionMasking(space=SPACE)], ids=["edits", "masks"])
def test_samples_of_exact_rates_follow_the_data(path: EditPath) -> None:
    """Total variation to the data, with 3,000 samples; the floor is .016. The bound is exceeded if steps are too long.

    By the bounded difference inequality, the distance exceeds its mean by .04 with probability below 1e-4.
    """
    n = 3000
    x = simulate(
        process(path),
        SPACE.sample_base(n, Rng(0).stream("source")),
        [i / 16 for i in range(17)],
        AdaptiveEdits(SPACE, 0.05),
        Rng(1),
    )
    counts = Counter(unpadded(row, 3) for row in x)
    assert total_variation({tokens: count / n for tokens, count in counts.items()}, DATA) < 0.07


@pytest.mark.parametrize("path", [EditFlow(space=SPACE), InsertionMasking(space=SPACE)], ids=["edits", "masks"])
def test_samples_do_not_depend_on_the_batch(path: EditPath) -> None:
    x_0, times = SPACE.sample_base(40, Rng(0).stream("source")), [0.0, 0.4, 1.0]
    whole = simulate(process(path), x_0, times, AdaptiveEdits(SPACE), Rng(2))
    part = simulate(process(path), x_0[:13], times, AdaptiveEdits(SPACE), Rng(2, first_example=27))
    assert torch.equal(whole[27:], part)


def test_wrong_solvers_are_refused() -> None:
    with pytest.raises(UsageError) as refused:
        AdaptiveEdits(SPACE, 0.0)
    assert refused.value.argument == "max_edits"
    with pytest.raises(UsageError):
        simulate(
            process(EditFlow(space=SPACE)),
            SPACE.sample_base(2, Rng(0).stream("x")),
            [1.0, 0.5],
            AdaptiveEdits(SPACE),
            Rng(0),
        )


def test_no_masks_remain_where_insertions_never_stop() -> None:
    """A network that expects .05 tokens per gap also at the end: sequences without masks are left as they are."""
    path, space = InsertionMasking(space=Sequences(3, 12)), Sequences(3, 12)

    def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
        prior, _ = path.log_prior(t)
        insert = torch.full((len(x), 13), 0.05).log() - prior
        return {"insert": insert, "insert_token": torch.zeros(len(x), 13, 3)}

    x = simulate(
        path.process(network, {}), space.sample_base(500, Rng(0).stream("x")), [0.0, 1.0], AdaptiveEdits(space), Rng(0)
    )
    assert not (x == space.mask_token_id).any()
    assert (x != space.pad_token_id).any()
