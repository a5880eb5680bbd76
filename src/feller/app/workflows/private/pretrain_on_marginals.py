"""Weights of a row model that begin where noisy counts end: learned from rows that are drawn from their law.

The counts are paid for, so such rows tell nothing more of anybody, and as many steps as one likes cost nothing.
Source: "DP-2Stage", 2024, arXiv 2412.02467, for two stages; there, the rows of the first are unrelated to the
private ones.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.tables.modality import Table
from feller.networks.blocks.ema import EMA
from feller.privacy.marginals.estimate import MarginalMeasurement, estimate
from feller.privacy.marginals.marginal_model import MarginalModel
from feller.privacy.marginals.marginal_network import allowed_combinations
from feller.training.engine import Engine
from feller.training.loop import TrainState, check_finite, make_train_state, train
from feller.training.objective import Batch, Objective
from feller.training.optimizer import TrainConfig

STEPS, BATCH = 400, 256
DECAY, AVERAGE = 0.5, 0.99
"""Long decay: the law has learned the noise of its counts, and a network that follows it that far is worse."""
ROWS = 100_000
"""That are drawn from the law."""


def law_of(kind: Table) -> MarginalModel | None:
    """Return the law of the counts that a table was told; None where it was told none."""
    if not kind.crosstabs:
        return None
    space = kind.by_levels().space()
    measured = [
        MarginalMeasurement(one.columns, torch.tensor(one.counts, dtype=torch.float64).view(one.levels), one.sigma)
        for one in kind.crosstabs
    ]
    return estimate(space.vocab_sizes, measured, float(kind.crosstab_rows), rules=allowed_combinations(space))


def teach(
    learner: TrainState,
    objective: Objective,
    kind: Table,
    law: MarginalModel,
    training: TrainConfig,
    draws: Rng,
    here: Engine,
    tell: Callable[[float], None] = lambda share: None,
) -> None:
    """Teach a new network the law of noisy counts before it sees a real row; its average begins there, too.

    Args:
        learner: Before its first step.
        objective: What it will learn of the real rows.
        kind: Of the table.
        law: Of levels, that was paid for.
        training: Of the real rows.
        draws: Source of the rows and the batches.
        here: Device and processes.
        tell: Hears the share that is done.
    """
    rows = kind.encode(kind.from_levels(law.sample(ROWS, draws.fold_in("law")), draws))
    rehearse(learner.network, objective, rows, training, draws, here, tell)
    learner.ema = EMA(learner.network, training.ema_decay)


def rehearse(
    network: nn.Module,
    objective: Objective,
    tokens: Int64[Tensor, "m places"],
    training: TrainConfig,
    draws: Rng,
    here: Engine,
    tell: Callable[[float], None] = lambda share: None,
) -> None:
    """Train a new network on made rows, in place; its weights become their running average.

    Args:
        network: As it was built.
        objective: What it will learn of the real rows.
        tokens: Of rows drawn from a law that was paid for, such as `ROWS` of a release; never of real ones.
        training: Of the real rows, whose rate is taken; sizes and steps are those above.
        draws: Source of the batches.
        here: Device and processes.
        tell: Hears the share that is done.

    Raises:
        UsageError: If there are no rows.
        InputError: If the loss stops being finite.
    """
    if not len(tokens):
        raise UsageError("rows to begin with", "none", f"Draw {ROWS:,} from the law of the counts")
    plan = replace(
        training,
        steps=STEPS,
        minutes=None,
        batch_size=BATCH,
        micro_batch=None,
        lr_decay_fraction=DECAY,
        ema_decay=AVERAGE,
        reuse_batches=1,
    )

    def some(step: int, rows: slice) -> Batch:
        which = torch.randint(len(tokens), (BATCH,), generator=draws.stream("rehearsal", step).shared_generator())
        return {"x_1": tokens[which[rows]], "given": {}}

    learner = make_train_state(network, plan)
    for report in train(learner, objective, some, plan, rng=draws.fold_in("rehearsal"), engine=here):
        check_finite(report)
        tell(report.progress)
    network.load_state_dict(learner.ema_weights(), strict=False)
