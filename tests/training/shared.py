"""Short trainings of several processes; as a program, each process trains and the first saves."""

import pathlib
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors
from feller.models.recipes.image_sizes import sized_unet
from feller.networks.blocks.lora import LoRA
from feller.networks.image.unet import UNet
from feller.networks.mlp import MLP
from feller.paths import Affine
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.poisson_sampling import poisson_batches
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.noise.grid_noise import SeededNoise
from feller.spaces import Euclidean
from feller.training.augmentation import Augmentation
from feller.training.checkpoint import load_checkpoint, save_checkpoint
from feller.training.engine import get_engine
from feller.training.loop import TrainState, make_train_state, train
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import parallelize

STEPS = 6
TRAINING = TrainConfig(
    batch_size=13, lr=1e-2, steps=STEPS, warmup=2, grad_clip_norm=0.5, ema_decay=0.9, weight_decay=0.1
)
"""A batch that two processes share unevenly, and gradients that are cut."""


def point(n: int, shape: tuple[int, ...]) -> Tensor:
    return Rng(5).stream("points").normal((n, *shape), torch.float64)


def mlp() -> nn.Module:
    return MLP(width=16, depth=2).build((2,), {}, Rng(0))


def unet() -> nn.Module:
    return UNet(channels=4, heads=2).build((1, 8, 8), {}, Rng(0))


def photographs() -> nn.Module:
    """A U-Net with attention, dropout, and the condition of augmentation."""
    config = replace(sized_unet(16, 16, "tiny"), channels=4, dropout=0.2)
    return without_zeros(config.build((1, 16, 16), {}, Rng(0)))


def large() -> nn.Module:
    """The U-Net of the size large, about 130 million weights."""
    return without_zeros(sized_unet(32, 32, "large").build((3, 32, 32), {}, Rng(0)))


def without_zeros(network: nn.Module) -> nn.Module:
    """Fill weights that begin at zero, behind which gradients would be zero."""
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            if not weight.any():
                weight += 0.05 * Rng(4).stream("weights", number).normal(weight.shape, weight.dtype)
    return network


def changed() -> nn.Module:
    return LoRA(mlp(), 2, Rng(1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (2,)),
    "unet": (unet, (1, 8, 8)),
    "low-rank": (changed, (2,)),
    "photographs": (photographs, (1, 16, 16)),
}
LARGE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {"large": (large, (3, 32, 32))}
AUGMENTED = ("photographs", "large")


def learned(
    kind: str,
    training: TrainConfig,
    run: Run | None = None,
    until: int = STEPS,
    *,
    private: bool = False,
    dtype: torch.dtype = torch.float64,
) -> TrainState:
    """Train, from the checkpoint of a run if there is one, and return the train state."""
    build, shape = {**NETWORKS, **LARGE}[kind]
    if kind in AUGMENTED:
        training = replace(training, augmentation=Augmentation(flip=0.5, crop=0.5))
    here, network = get_engine(), build().to(dtype)
    learner = make_train_state(network, training)
    if run is not None and run.state.is_file():
        load_checkpoint(run, learner)
    parallelize(learner, training, here)
    data = {"x_1": point(64, shape).to(dtype), "given": {}}
    gradient = None
    if private:
        feed = poisson_batches(data, training.batch_size, SeededNoise(1, "batches"))
        gradient = DPSGD(
            sigma=0.7,
            clip=FixedClipNorm(0.3),
            noise=SeededNoise(2, "noise"),
            rank=here.rank,
            all_reduce=here.all_reduce_sum if here.world_size > 1 else None,
        )
    else:

        def feed(step: int, rows: slice) -> dict:
            which = Rng(7, rows.start, training.batch_size).stream("rows", step).randint(64, (rows.stop - rows.start,))
            return {"x_1": data["x_1"][which], "given": {}}

    objective = FlowMatching(Affine(), Euclidean(shape))
    for report in train(learner, objective, feed, training, rng=Rng(3), engine=here, gradient=gradient):
        if report.step == until:
            break
    return learner


SHARDED = replace(TRAINING, batch_size=12, micro_batch=4, fsdp=True)


MIXED = replace(SHARDED, precision="bf16", optimizer="sgd", lr=1.0, warmup=0, weight_decay=0.0)
"""One step of the gradient itself, so that weights show its rounding."""


ONE_STEP = replace(
    MIXED, batch_size=2, micro_batch=None, precision="fp32", gradient_checkpointing=True, grad_clip_norm=1e9, lr=1e-3
)
"""One step of gradient descent with gradient checkpointing."""


def main(folder: pathlib.Path) -> None:
    """Write the results of each training over several processes."""
    torch.set_default_dtype(torch.float64)
    first = get_engine().is_main_process
    for kind in NETWORKS:
        place = Run(folder / f"replicated-{kind}")
        save(place, learned(kind, TRAINING), writes=first)
        save(Run(folder / f"sharded-{kind}"), learned(kind, SHARDED), writes=first)
    save(Run(folder / "private"), learned("mlp", TRAINING, private=True), writes=first)
    half = Run(folder / "half")
    save(half, learned("mlp", SHARDED, until=3), writes=first)
    get_engine().barrier()
    for name, training in (("resumed-sharded", SHARDED), ("resumed-whole", replace(SHARDED, fsdp=False))):
        save(Run(folder / name), learned("mlp", training, half), writes=first)
    parts = learned("mlp", SHARDED, until=1)
    held = sum(weight.to_local().numel() for weight in parts.network.parameters())
    (folder / f"held-{get_engine().rank}").write_text(str(held))
    get_engine().check_identical("data", "the same")
    try:
        get_engine().check_identical("data", f"those of {get_engine().rank}")
    except InputError as error:
        (folder / f"other-{get_engine().rank}").write_text(str(error))
    (folder / f"key-{get_engine().rank}").write_bytes(get_engine().shared_secret() or b"")


def main_mixed(folder: pathlib.Path) -> None:
    """Write the results of one step in bfloat16 over several processes."""
    first = get_engine().is_main_process
    for kind in NETWORKS:
        learner = learned(kind, MIXED, until=1, dtype=torch.float32)
        kinds = {weight.to_local().dtype for weight in learner.network.parameters()}
        (folder / f"dtypes-{kind}-{get_engine().rank}").write_text(str(*kinds))
        save(Run(folder / f"mixed-{kind}"), learner, writes=first)


def main_large(folder: pathlib.Path) -> None:
    """Write the result of one step of the size large over several processes."""
    learner = learned("large", ONE_STEP, until=1, dtype=torch.float32)
    held = sum(weight.to_local().numel() for weight in learner.network.parameters())
    (folder / f"held-{get_engine().rank}").write_text(str(held))
    save(Run(folder / "large"), learner, writes=get_engine().is_main_process)


def save(run: Run, learner: TrainState, *, writes: bool) -> None:
    """Write a checkpoint."""
    if writes:
        run.path.mkdir(exist_ok=True)
    save_checkpoint(run, learner, writes=writes)


def kept(run: Run) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint."""
    return {**load_tensors(run.state)[0], **load_tensors(run.weights)[0]}


if __name__ == "__main__":
    mains = {"mixed": main_mixed, "large": main_large}
    mains.get(sys.argv[-1], main)(pathlib.Path(sys.argv[1]))
    get_engine().barrier()  # no process ends while another still communicates
