"""Construction of the inputs of DP-SGD training: noisy gradients, batches charged to the ledger, private metrics."""

import math

from torch import Tensor

from feller.app.workflows.fitting.run_training import TrainingInputs, TrainingJob
from feller.app.workflows.private.budget import PrivacyBudget
from feller.app.workflows.private.leakage_report import make_tracker, write_leakage
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.private.private_split import row_groups
from feller.app.workflows.run_config import FitRecord
from feller.core.errors import InputError
from feller.core.gradient import Gradient
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.privacy.dp_sgd.clip_norm import AdaptiveClipNorm, ClipNorm, FixedClipNorm
from feller.privacy.dp_sgd.correlated_noise import CorrelatedNoise
from feller.privacy.dp_sgd.poisson_sampling import RowGroups, poisson_batches
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.leakage_tracking import LeakageTracker, TrackedGradient
from feller.privacy.noise.grid_noise import Noise, make_noise
from feller.training.engine import Engine
from feller.training.loop import StepMetrics, TrainState
from feller.training.trainer import Callback, StepMonitor

COUNT_NOISE_RATIO = 20
"""Batch size divided by the standard deviation of the noise on the number of gradients below the clipping norm.

This noisy number adapts the clipping norm.
"""
SEED = 32
"""Length in bytes of the secret seed for per-example random numbers; equal to the length of a noise key."""
CLOCK_SECONDS = 60.0
"""Resolution of recorded times in seconds, which is coarse because exact times would reveal batch sizes."""


def private_inputs(
    run: Run,
    job: TrainingJob,
    rows: Dataset,
    guarantee: Guarantee,
    budget: PrivacyBudget,
    engine: Engine,
    record: FitRecord,
) -> TrainingInputs:
    """Return the inputs of DP-SGD training: noisy gradients, and batches charged to the budget.

    The random numbers of a row (source point, time) depend on its position in the batch and therefore on the other
    rows. The privacy guarantee averages over these random numbers and holds only while they are secret, so their seed
    is secret.

    Args:
        run: Run folder.
        job: Training job.
        rows: Private training rows.
        guarantee: Planned guarantee: noise multiplier, clipping norm, expected batch size and number of steps.
        budget: Ledger that is charged before each batch is drawn.
        engine: Device and processes.
        record: Fit record: the number of rows whose Fisher information loss is tracked, the seed that selects them, and
            the salt of the groups of rows that take turns.
    """
    key, steps = engine.shared_secret(), budget.steps  # `steps` in the name: no noise repeats after a resume

    def shared_noise(purpose: str) -> Noise:
        return make_noise(guarantee.unsafe_seed, purpose, 0, steps, key=key)

    data = {"x_1": rows.values, "given": rows.given}
    groups, correlation = None, None
    if guarantee.bands > 1:
        assignment = row_groups(rows, guarantee.bands, record.provenance.salt)
        groups, correlation = RowGroups(assignment, guarantee.bands, steps), CorrelatedNoise(guarantee.correlation)
    load = poisson_batches(data, guarantee.batch, shared_noise("batches"), rows.modality.encode, groups)
    dp_sgd = DPSGD(
        sigma=guarantee.sigma,
        clip=make_clip_fn(guarantee),
        noise=gradient_noise(guarantee, steps),
        correlation=correlation,
        rank=engine.rank,
        all_reduce=engine.all_reduce_sum if engine.world_size > 1 else None,
    )
    gradient: Gradient = dp_sgd
    leakage_callbacks: tuple[Callback, ...] = ()
    if record.watched and engine.is_main_process:
        tracker, indices = make_tracker(run, record.watched, rows, job.objective, guarantee, record.seed, engine.device)
        gradient = TrackedGradient(inner=dp_sgd, tracker=tracker)
        leakage_callbacks = (LeakageWriter(run, indices, tracker),)
    return TrainingInputs(
        batches=budget.batches(load),
        rng=Rng(int.from_bytes(shared_noise("examples").random_bytes(SEED))),
        gradient=gradient,
        callbacks=(budget, *leakage_callbacks),
        monitor=PrivateMonitor(),
        clock_resolution=CLOCK_SECONDS,
    )


class LeakageWriter(Callback):
    """Callback that saves the Fisher information loss of the tracked rows."""

    def __init__(self, run: Run, rows: Tensor, watch: LeakageTracker) -> None:
        self._run, self._rows, self._watch = run, rows, watch

    def on_train_end(self, state: TrainState) -> None:
        write_leakage(self._run, self._rows, self._watch.leakage)


class PrivateMonitor(StepMonitor):
    """Monitor that reports only learning rate and noisy gradient norm; losses and step times depend on the rows."""

    def check(self, metrics: StepMetrics) -> None:
        if not math.isfinite(metrics.grad_norm.item()):
            raise InputError(
                f"the gradient became infinite at step {metrics.step}; the spent privacy budget remains spent",
                remedy=f"Lower the learning rate (--train.lr {metrics.lr / 3:.1g})",
            )

    def numbers(self, metrics: StepMetrics) -> dict[str, float]:
        return self.core_numbers(metrics)


def gradient_noise(guarantee: Guarantee, steps: int) -> Noise:
    """Return the noise source of the gradients for a training session that starts after `steps` steps.

    Only the process with rank 0 has the key from which noise is drawn. This key is not derived from the secret that the
    processes share: otherwise anyone who intercepts that secret could subtract the noise.
    """
    return make_noise(guarantee.unsafe_seed, "training", 0, steps)


def make_clip_fn(guarantee: Guarantee) -> ClipNorm:
    """Return the object that supplies the clipping norm of each step, which is fixed or adaptive.

    An adaptive norm restarts at its initial value when training is resumed.
    """
    if not guarantee.adaptive:
        return FixedClipNorm(guarantee.clip)
    return AdaptiveClipNorm(guarantee.clip, count_sigma=max(guarantee.batch / COUNT_NOISE_RATIO, guarantee.sigma))
