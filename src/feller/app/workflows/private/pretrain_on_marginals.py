"""Pretraining of a table model on synthetic rows, which are sampled from the graphical model of noisy counts.

The counts are already charged to the ledger, so training on synthetic rows costs no privacy budget, for any number of
steps.
Source: "DP-2Stage", 2024, arXiv 2412.02467, for two stages; its first stage uses rows unrelated to the private ones.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.tables.histories import Histories
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
"""Final fraction of the pretraining in which the learning rate decays, and EMA decay; a long decay prevents fitting the
noise of the counts."""
ROWS = 100_000
"""Number of rows sampled from the graphical model."""
HISTORIES = 10_000
"""Number of histories sampled from the graphical model of rows and the rows before."""


def marginal_model_of(kind: Table | Histories) -> MarginalModel | None:
    """Return the graphical model fitted to a table's noisy counts; None if the table has no noisy counts."""
    if not kind.crosstabs:
        return None
    histories, table = kind.view(Histories), kind.view(Table)
    space = (
        histories.windows.space if table is None and histories is not None else cast(Table, table).by_levels().space()
    )
    measurements = [
        MarginalMeasurement(tab.columns, torch.tensor(tab.counts, dtype=torch.float64).view(tab.levels), tab.sigma)
        for tab in kind.crosstabs
    ]
    return estimate(space.vocab_sizes, measurements, float(kind.crosstab_rows), rules=allowed_combinations(space))


def pretrain_on_marginals(
    state: TrainState,
    objective: Objective,
    kind: Table | Histories,
    marginal_model: MarginalModel,
    training: TrainConfig,
    rng: Rng,
    engine: Engine,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Pretrain a network on rows sampled from a graphical model, and reset the EMA weights to the result."""
    if (histories := kind.view(Histories)) is not None:
        codes = histories.sample_windows(marginal_model.sample_missing, HISTORIES, rng.fold_in("law"))
    else:
        codes = cast(Table, kind).from_levels(marginal_model.sample(ROWS, rng.fold_in("law")), rng)
    rows = kind.encode(codes)
    pretrain_on_rows(state.network, objective, rows, training, rng, engine, on_progress)
    state.ema = EMA(state.network, training.ema_decay)


def pretrain_on_rows(
    network: nn.Module,
    objective: Objective,
    synthetic_tokens: Int64[Tensor, "m places"],
    training: TrainConfig,
    rng: Rng,
    engine: Engine,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Pretrain a new network in place on synthetic rows, and replace its weights by their EMA.

    Args:
        network: New network.
        objective: Objective of the real training.
        synthetic_tokens: Tokens of synthetic rows sampled from a private release, typically `ROWS` rows; never real
            rows.
        training: Config of the real training; number of steps, batch size and decays are replaced by constants of this
            module.
        rng: Source of random numbers for the batches.
        engine: Device and processes.
        on_progress: Function called with the completed fraction of the pretraining.

    Raises:
        UsageError: If `synthetic_tokens` has no rows.
        InputError: If the loss is not finite.
    """
    if not len(synthetic_tokens):
        raise UsageError("synthetic rows", "none", f"Sample {ROWS:,} rows from the graphical model of the counts")
    config = replace(
        training,
        steps=STEPS,
        minutes=None,
        batch_size=BATCH,
        micro_batch=None,
        lr_decay_fraction=DECAY,
        ema_decay=AVERAGE,
        reuse_batches=1,
    )

    def load_batch(step: int, rows: slice) -> Batch:
        indices = torch.randint(
            len(synthetic_tokens), (BATCH,), generator=rng.stream("rehearsal", step).shared_generator()
        )
        return {"x_1": synthetic_tokens[indices[rows]], "given": {}}

    learner = make_train_state(network, config)
    for metrics in train(learner, objective, load_batch, config, rng=rng.fold_in("rehearsal"), engine=engine):
        check_finite(metrics)
        on_progress(metrics.progress)
    network.load_state_dict(learner.ema_weights(), strict=False)
