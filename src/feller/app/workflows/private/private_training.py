"""The steps of a private training: its noise, batches that are paid for, and what may be told of it."""

import math

from torch import Tensor

from feller.app.workflows.fitting.run_training import TrainingInputs, TrainingJob
from feller.app.workflows.private.budget import PrivacyBudget
from feller.app.workflows.private.leakage_report import make_tracker, write_leakage
from feller.app.workflows.private.privacy_config import Guarantee
from feller.core.errors import InputError
from feller.core.gradient import Gradient
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.privacy.dp_sgd.clip_norm import AdaptiveClipNorm, ClipNorm, FixedClipNorm
from feller.privacy.dp_sgd.poisson_sampling import poisson_batches
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.leakage_tracking import LeakageTracker, TrackedGradient
from feller.privacy.noise.grid_noise import Noise, make_noise
from feller.training.engine import Engine
from feller.training.loop import StepMetrics, TrainState
from feller.training.trainer import Callback, StepMonitor

COUNT_NOISE_RATIO = 20
"""Batch over the noise of the count by which a clip norm adapts."""
SEED = 32
"""Bytes of the seed of what rows meet: as many as a key of the noise has."""
CLOCK_SECONDS = 60.0
"""Seconds to whose multiples times are rounded: a time tells how many rows the batches had."""


def private_inputs(
    run: Run,
    job: TrainingJob,
    rows: Dataset,
    guarantee: Guarantee,
    budget: PrivacyBudget,
    engine: Engine,
    n_tracked_rows: int,
    seed: int,
) -> TrainingInputs:
    """Return steps whose gradients of single rows are cut and noised, and whose batches are paid for.

    What a row meets, such as its source point, follows from its place in the batch, and so from the other rows; the
    guarantee is that of the average over such draws, which holds as long as nobody knows them: their seed is secret.

    Args:
        run: Where account of watched rows is kept.
        job: What is trained.
        rows: What is learned from.
        guarantee: Noise, steps, batches.
        budget: Pays for each batch, and stops the training when it is spent.
        engine: Device and processes.
        n_tracked_rows: Rows of which account is kept.
        seed: Chooses them, and what they meet in that account.
    """
    key, steps = engine.shared_secret(), budget.steps

    def agreed(what: str) -> Noise:
        return make_noise(guarantee.unsafe_seed, what, 0, steps, key=key)

    data = {"x_1": rows.values, "given": rows.given}
    load = poisson_batches(data, guarantee.batch, agreed("batches"), rows.modality.encode)
    private = DPSGD(
        sigma=guarantee.sigma,
        clip=make_clip_fn(guarantee),
        noise=gradient_noise(guarantee, steps),
        rank=engine.rank,
        all_reduce=engine.all_reduce_sum if engine.world_size > 1 else None,
    )
    gradient: Gradient = private
    account: tuple[Callback, ...] = ()
    if n_tracked_rows and engine.is_main_process:
        watch, which = make_tracker(run, n_tracked_rows, rows, job.objective, guarantee, seed, engine.device)
        gradient = TrackedGradient(inner=private, tracker=watch)
        account = (LeakageWriter(run, which, watch),)
    return TrainingInputs(
        batches=budget.batches(load),
        rng=Rng(int.from_bytes(agreed("examples").random_bytes(SEED))),
        gradient=gradient,
        callbacks=(budget, *account),
        monitor=PrivateMonitor(),
        clock_resolution=CLOCK_SECONDS,
    )


class LeakageWriter(Callback):
    """Keeps what a training told about watched rows."""

    def __init__(self, run: Run, rows: Tensor, watch: LeakageTracker) -> None:
        self._run, self._rows, self._watch = run, rows, watch

    def on_train_end(self, state: TrainState) -> None:
        write_leakage(self._run, self._rows, self._watch.leakage)


class PrivateMonitor(StepMonitor):
    """Tells rate and noisy gradient alone: losses, and how long a step took, are of the rows."""

    def check(self, metrics: StepMetrics) -> None:
        if not math.isfinite(metrics.grad_norm.item()):
            raise InputError(
                f"the gradient became infinite at step {metrics.step}; a lower rate (--train.lr {metrics.lr / 3:.1g})"
                " mostly helps. What was spent stays spent"
            )

    def numbers(self, metrics: StepMetrics) -> dict[str, float]:
        return self.core_numbers(metrics)


def gradient_noise(guarantee: Guarantee, steps: int) -> Noise:
    """Return the noise of the gradients, which the first process adds alone, from a key that it shares with nobody.

    What the processes agree upon has travelled between them: whoever heard it could take such noise away again.
    """
    return make_noise(guarantee.unsafe_seed, "training", 0, steps)


def make_clip_fn(guarantee: Guarantee) -> ClipNorm:
    """Return the clip norm; one that adapts begins anew in each sitting."""
    if not guarantee.adaptive:
        return FixedClipNorm(guarantee.clip)
    return AdaptiveClipNorm(guarantee.clip, count_sigma=max(guarantee.batch / COUNT_NOISE_RATIO, guarantee.sigma))
