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


def marginal_model_of(kind: Table) -> MarginalModel | None:
    """Return the law of the counts that a table was told; None where it was told none."""
    if not kind.crosstabs:
        return None
    space = kind.by_levels().space()
    measured = [
        MarginalMeasurement(one.columns, torch.tensor(one.counts, dtype=torch.float64).view(one.levels), one.sigma)
        for one in kind.crosstabs
    ]
    return estimate(space.vocab_sizes, measured, float(kind.crosstab_rows), rules=allowed_combinations(space))


def pretrain_on_marginals(
    state: TrainState,
    objective: Objective,
    kind: Table,
    marginal_model: MarginalModel,
    training: TrainConfig,
    rng: Rng,
    engine: Engine,
    on_progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Teach a new network the law of noisy counts before it sees a real row; its average begins there, too.

    Args:
        state: Before its first step.
        objective: What it will learn of the real rows.
        kind: Of the table.
        marginal_model: Of levels, that was paid for.
        training: Of the real rows.
        rng: Source of the rows and the batches.
        engine: Device and processes.
        on_progress: Hears the share that is done.
    """
    rows = kind.encode(kind.from_levels(marginal_model.sample(ROWS, rng.fold_in("law")), rng))
    pretrain_on_rows(state.network, objective, rows, training, rng, engine, on_progress)
    state.ema = EMA(state.network, training.ema_decay)


def pretrain_on_rows(
    network: nn.Module,
    objective: Objective,
    synthetic_tokens: Int64[Tensor, "m places"],
    training: TrainConfig,
    rng: Rng,
    engine: Engine,
    on_progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Train a new network on made rows, in place; its weights become their running average.

    Args:
        network: As it was built.
        objective: What it will learn of the real rows.
        synthetic_tokens: Of rows drawn from a law that was paid for, such as `ROWS` of a release; never of real ones.
        training: Of the real rows, whose rate is taken; sizes and steps are those above.
        rng: Source of the batches.
        engine: Device and processes.
        on_progress: Hears the share that is done.

    Raises:
        UsageError: If there are no rows.
        InputError: If the loss stops being finite.
    """
    if not len(synthetic_tokens):
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
        which = torch.randint(
            len(synthetic_tokens), (BATCH,), generator=rng.stream("rehearsal", step).shared_generator()
        )
        return {"x_1": synthetic_tokens[which[rows]], "given": {}}

    learner = make_train_state(network, plan)
    for report in train(learner, objective, some, plan, rng=rng.fold_in("rehearsal"), engine=engine):
        check_finite(report)
        on_progress(report.progress)
    network.load_state_dict(learner.ema_weights(), strict=False)
