"""A training in which no row shows."""

import math
from dataclasses import replace

from feller.app.workflows.fitting.training_job import Prepared
from feller.app.workflows.private.budget import Purse
from feller.app.workflows.private.leakage_report import keep, watch_of
from feller.app.workflows.private.privacy_config import Guarantee
from feller.core.errors import InputError
from feller.core.gradient import Gradient
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.dp_sgd.clip_norm import Adaptive, Clip, Fixed
from feller.privacy.dp_sgd.poisson_sampling import poisson_batches
from feller.privacy.dp_sgd.private_gradient import Private
from feller.privacy.leakage.leakage_tracking import Watched
from feller.privacy.noise.grid_noise import Noise, source
from feller.training.engine import Engine
from feller.training.loop import Report

COUNTED = 20
"""Batch over the noise of the count by which a clip norm adapts."""
SEED = 32
"""Bytes of the seed of what rows meet: as many as a key of the noise has."""


def privately(
    run: Run,
    ready: Prepared,
    planned: Guarantee,
    ledger: Ledger,
    rows: Dataset,
    *,
    here: Engine,
    watched: int = 0,
    seed: int = 0,
) -> Prepared:
    """Return the training with gradients of single rows cut and noised, and batches that are paid for.

    What a row meets, such as its source point, follows from its place in the batch, and so from the other rows; the
    guarantee is that of the average over such draws, which holds as long as nobody knows them: their seed is secret.

    Args:
        run: Where the ledger is kept.
        ready: The same training without privacy.
        planned: Its noise, its steps, its batches.
        ledger: What was spent so far.
        rows: What is learned from.
        here: Device and processes.
        watched: Rows of which account is kept.
        seed: Chooses them, and what they meet in that account.
    """
    purse = Purse(run, ledger, planned, writes=here.is_first)
    key = here.secret()

    def agreed(what: str) -> Noise:
        return source(planned.unsafe_seed, what, 0, purse.steps, key=key)

    data = {"x_1": rows.values, "given": rows.given}
    draw = poisson_batches(data, planned.batch, agreed("batches"), rows.modality.encode)
    gradient: Gradient = Private(
        sigma=planned.sigma,
        clip=clip_of(planned),
        noise=hiding(planned, purse.steps),
        rank=here.rank,
        together=here.total if here.ranks > 1 else None,
    )
    close = purse.close
    if watched and isinstance(gradient, Private) and here.is_first:
        watch, which = watch_of(run, watched, rows, ready.objective, planned, seed, here.device)
        gradient = Watched(inner=gradient, watch=watch)

        def close() -> None:
            purse.close()
            keep(run, which, watch.leakage)

    return replace(
        ready,
        seed=int.from_bytes(agreed("examples").take(SEED)),
        feed=lambda tell: purse.batches(draw),
        gradient=gradient,
        summary=f"{ready.summary}; epsilon {planned.epsilon:g} at delta {planned.delta:.3g}",
        check=_check,
        tells_loss=False,
        spent=lambda: purse.empty,
        open=lambda: purse.open(ready.learner.step),
        close=close,
    )


def hiding(planned: Guarantee, steps: int) -> Noise:
    """Return the noise of the gradients, which the first process adds alone, from a key that it shares with nobody.

    What the processes agree upon has travelled between them: whoever heard it could take such noise away again.
    """
    return source(planned.unsafe_seed, "training", 0, steps)


def clip_of(planned: Guarantee) -> Clip:
    """Return the clip norm; one that adapts begins anew in each sitting."""
    if not planned.adaptive:
        return Fixed(planned.clip)
    return Adaptive(planned.clip, count_sigma=max(planned.batch / COUNTED, planned.sigma))


def _check(report: Report) -> float:
    """Refuse a step that spoiled the weights; the loss is not looked at.

    Raises:
        InputError: Then.
    """
    if not math.isfinite(report.gradient.item()):
        raise InputError(
            f"the gradient became infinite at step {report.step}; a lower rate (--train.lr {report.lr / 3:.1g}) mostly"
            " helps. What was spent stays spent"
        )
    return math.nan
