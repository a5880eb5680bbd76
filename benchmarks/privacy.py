"""A step on clipped gradients of single examples, beside a plain step of the same batch, and private normal numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.source import Watch
from benchmarks.timing import Case
from feller.core.gradient import Gradient, MeanGradient
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.noise.grid_noise import SecureNoise

BATCH, LENGTH, WIDTH, DEPTH, SYMBOLS = 256, 16, 128, 2, 512
MAX_RATIO = 1.5
NUMBERS = 200_000


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.ask, self.answer = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        parts = self.ask(self.norms[0](h)).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        h = h + self.answer(F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2))
        return h + self.second(F.gelu(self.first(self.norms[1](h))))


class Reader(nn.Module):
    """A causal transformer of tables, linear layers and norms."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(SYMBOLS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm, self.leave = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1]).expand(len(x), -1).contiguous()  # as ghost clipping of a peer wants it
        return self.leave(self.norm(self.blocks(self.tokens(x) + self.places(places))))


def loss(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
    x = example["x"]
    return F.cross_entropy(network(x)[:, :-1].transpose(1, 2), x[:, 1:], reduction="none").mean(1)


def cases() -> Iterator[Case]:
    torch.manual_seed(0)
    example = {"x": torch.randint(0, SYMBOLS, (BATCH, LENGTH))}
    ours, plain = step(DPSGD(sigma=1.0), example), step(MeanGradient(), example)
    yield Case(
        f"a private step, {BATCH} rows of {LENGTH} tokens, {DEPTH} blocks of width {WIDTH}, noise included",
        {"feller": ours, "floor, a plain step": plain, **peers(example)},
        5,
        max_floor_ratio=MAX_RATIO,
        note=lambda: memory_note(ours, plain),
    )
    noise = SecureNoise()
    yield Case(
        f"{NUMBERS:,} private normal numbers",
        {"feller": lambda: noise.normal((NUMBERS,)), "floor, torch's": lambda: torch.randn(NUMBERS)},
        9,
        max_milliseconds=15.0,
    )


def step(gradient: Gradient, example: dict[str, Tensor]) -> Callable[[], object]:
    """Return what makes one step of gradient descent on a network of its own."""
    torch.manual_seed(1)
    network = Reader()
    optimiser = torch.optim.SGD(network.parameters(), 0.1)

    def run() -> None:
        with torch.enable_grad():
            optimiser.zero_grad()
            gradient(loss, network, [example], float(BATCH))
            optimiser.step()

    return run


def peers(example: dict[str, Tensor]) -> dict[str, Callable[[], object]]:
    """Return the peers that are installed: each of Opacus' ways to clip."""
    try:
        import opacus
    except ImportError:
        return {}
    return {f"opacus, {mode}": opacus_step(opacus, mode, example) for mode in ("hooks", "ghost")}


def opacus_step(opacus: Any, mode: str, example: dict[str, Tensor]) -> Callable[[], object]:
    torch.manual_seed(1)
    network = Reader()
    engine = opacus.PrivacyEngine(accountant="rdp")
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(example["x"]), batch_size=BATCH)
    criterion = nn.CrossEntropyLoss()
    made = engine.make_private(
        module=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        data_loader=data,
        criterion=criterion,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
        grad_sample_mode=mode,
    )
    private, optimiser = made[0], made[1]
    fast = made[2] if mode == "ghost" else None
    x = example["x"]

    def run() -> None:
        with torch.enable_grad():
            optimiser.zero_grad()
            answer = private(x)[:, :-1]
            if fast is None:
                F.cross_entropy(answer.transpose(1, 2), x[:, 1:]).backward()
            else:
                fast(answer.reshape(-1, SYMBOLS), x[:, 1:].reshape(-1), shape=(BATCH, LENGTH - 1)).backward()
            optimiser.step()

    return run


def memory_note(ours: Callable[[], object], plain: Callable[[], object]) -> str:
    """Return the peak memory of the tensors of a private step, and its ratio to that of a plain step."""
    private, bare = (peak(run) for run in (ours, plain))
    right = "" if private <= MAX_RATIO * bare else f" (above x{MAX_RATIO:g})"
    return f"memory {private / 2**20:.0f} MiB, x{private / bare:.2f} of the plain step's{right}"


def peak(run: Callable[[], object]) -> int:
    watch = Watch()
    with watch:
        run()
    return watch.peak
