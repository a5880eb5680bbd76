"""Fraction of generated Sudoku boards that a masked model solves, for each unmasking order.

    python -m benchmarks.sudoku --box 2 --minutes 5 --planner-minutes 2
    python -m benchmarks.sudoku --box 3 --minutes 25 --planner-minutes 5

Solution grids of training and test boards are disjoint, and each test board has one solution. Givens are observed
tokens. Tokens have temperature 0, so that only the order of the cells differs.
"""

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from feller import CrossEntropy, FlowMatching, Rng, Tokens
from feller.paths import (
    ConfidenceOrder,
    ConfidenceThreshold,
    EntropyOrder,
    LearnedOrder,
    MarginOrder,
    Mixture,
    PathPlanning,
    TokenSampler,
    UnmaskingOrder,
)
from feller.paths.processes import clamp
from feller.paths.time_distributions import TimeDistribution, linear_grid
from feller.sampling import Euler, trajectory
from feller.spaces import MaskSource
from feller.training.losses import MaskedTokenLoss
from feller.training.objective import Objective, TrainingContext
from feller.training.objectives.planner_training import PlannerTraining

EMPTY = -1
GIVEN_FRACTION = {2: 0.25, 3: 0.4}
"""Minimum fraction of given cells of a test board, by the side of a box; the solution stays unique."""


def solutions(grid: list[int], box: int, rng: random.Random) -> Iterator[list[int]]:
    """Yield the solutions of a board in random order, by search in the cell with the fewest candidates."""
    side = box * box
    rows, columns, boxes = [0] * side, [0] * side, [0] * side

    def place(cell: int, bit: int) -> None:
        row, column = divmod(cell, side)
        rows[row] ^= bit
        columns[column] ^= bit
        boxes[row // box * box + column // box] ^= bit

    def used(cell: int) -> int:
        row, column = divmod(cell, side)
        return rows[row] | columns[column] | boxes[row // box * box + column // box]

    grid = list(grid)
    for cell, digit in enumerate(grid):
        if digit != EMPTY:
            place(cell, 1 << digit)
    open_cells = {cell for cell, digit in enumerate(grid) if digit == EMPTY}

    def search() -> Iterator[list[int]]:
        if not open_cells:
            yield list(grid)
            return
        cell = max(open_cells, key=lambda c: used(c).bit_count())
        open_cells.remove(cell)
        for digit in rng.sample(range(side), side):
            if not used(cell) >> digit & 1:
                grid[cell] = digit
                place(cell, 1 << digit)
                yield from search()
                place(cell, 1 << digit)
        grid[cell] = EMPTY
        open_cells.add(cell)

    yield from search()


def random_grid(box: int, rng: random.Random) -> list[int]:
    """Return a random solution grid."""
    return next(solutions([EMPTY] * box**4, box, rng))


def puzzle(grid: list[int], box: int, rng: random.Random) -> list[int]:
    """Return a board with one solution: cells are removed in random order while the solution stays unique."""
    board, fewest = list(grid), math.ceil(GIVEN_FRACTION[box] * len(grid))
    for cell in rng.sample(range(len(grid)), len(grid)):
        if sum(digit != EMPTY for digit in board) <= fewest:
            break
        digit, board[cell] = board[cell], EMPTY
        found = solutions(board, box, rng)
        next(found)
        if next(found, None) is not None:
            board[cell] = digit
    return board


def boards(box: int, trains: int, tests: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return training grids, test grids and test boards, [n, cells] each."""
    rng, grids = random.Random(seed), dict[tuple[int, ...], None]()
    # there are 288 grids of 4 x 4 cells: a quarter is held out
    while len(grids) < (288 if box == 2 else trains + tests):
        grids[tuple(random_grid(box, rng))] = None
    every = rng.sample(list(grids), len(grids))
    tests = min(tests, len(every) // 4)
    held_out = [list(grid) for grid in every[:tests]]
    return torch.tensor(every[tests:]), torch.tensor(held_out), torch.tensor([puzzle(g, box, rng) for g in held_out])


class BoardNetwork(nn.Module):
    """Network of cells that exchange sums of features within rows, columns and boxes; it does not read the time."""

    def __init__(self, box: int, width: int, depth: int) -> None:
        super().__init__()
        self.box, side = box, box * box
        self.embed = nn.Embedding(side + 1, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.cells = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.lines = nn.ModuleList(nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(3)) for _ in range(depth))
        self.outs = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, side))

    def forward(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Return the logits of each cell, [b, cells, digits]."""
        box, side, h = self.box, self.box**2, self.embed(x_t)
        for norm, cell, (row, column, block), out in zip(self.norms, self.cells, self.lines, self.outs, strict=True):
            z = norm(h)
            grid = z.unflatten(1, (side, side))
            blocks = z.unflatten(1, (box, box, box, box)).sum((2, 4), keepdim=True) / box
            to_boxes = block(blocks).expand(-1, -1, box, -1, box, -1).flatten(1, 4)
            to_lines = row(grid.sum(2, keepdim=True) / box) + column(grid.sum(1, keepdim=True) / box)
            h = h + out(nn.functional.gelu(cell(z) + to_boxes + to_lines.flatten(1, 2)))
        return self.head(h)


def augment(grids: Tensor, box: int, generator: torch.Generator) -> Tensor:
    """Permute digits of each grid; permute bands, rows within bands, and transpose, the same for all grids."""
    side = box * box

    def line_order() -> Tensor:
        bands = torch.randperm(box, generator=generator)
        return torch.cat([band * box + torch.randperm(box, generator=generator) for band in bands])

    x = grids.view(-1, side, side)[:, line_order()][:, :, line_order()]
    x = x.mT if torch.rand((), generator=generator) < 0.5 else x
    digits = torch.rand(len(x), side, generator=generator).argsort(1)
    return digits.gather(1, x.flatten(1))


def train(
    network: nn.Module, objective: Objective, grids: Tensor, box: int, minutes: float, batch: int, is_augmented: bool
) -> int:
    """Train a network for minutes of CPU time with a learning rate that falls to zero, and return the steps."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=1e-2)
    generator, begin, step = torch.Generator().manual_seed(0), time.process_time(), 0
    while (done := (time.process_time() - begin) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * min((step + 1) / 100, 1) * min(1, 2 * (1 - done))
        x_1 = grids[torch.randint(len(grids), (batch,), generator=generator)]
        x_1 = augment(x_1, box, generator) if is_augmented else x_1
        example = objective.draw({"x_1": x_1}, Rng(0).step(step), network)
        loss = objective.loss(network, example).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 500 == 0:
            print(f"step {step}, {60 * minutes * done:.0f} s, loss {loss.item():.4f}", flush=True)
    return step


@dataclass(frozen=True)
class LateTimes(TimeDistribution):
    """Uniform distribution on [0.15, 1]: boards with fewer givens have many solutions."""

    def quantile(self, u: Tensor) -> Tensor:
        return 0.15 + 0.85 * u


@dataclass(frozen=True)
class LeftToRight(UnmaskingOrder):
    """Order of the cells in a board, row by row."""

    def planner_logits(self, x_1: Tensor, t: Tensor) -> Tensor:
        return torch.arange(x_1.shape[1], 0, -1.0)[None, :, None].expand(len(x_1), -1, 2)

    def score(self, logits: Tensor, x_1: Tensor, u: Tensor) -> Tensor:
        return logits[:, 0].double()


def solve(path: Mixture, network: nn.Module, givens: Tensor, side: int, seed: int) -> tuple[Tensor, float]:
    """Return the filled boards, and the mean number of network evaluations that a board takes."""
    known, calls = givens != EMPTY, torch.zeros(len(givens))
    x = torch.where(known, givens, side)
    process = clamp(path.process(network, {"known": known}), known)
    with torch.no_grad():
        calls += (x == side).any(1)
        for state in trajectory(process, x, linear_grid(x.shape[1]), Euler(), Rng(seed)):
            x = state
            calls += (x == side).any(1)
    return x, calls.mean().item()


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Train a model and a planner, print the fraction of solved test boards for each order, and return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sudoku")
    parser.add_argument("--box", type=int, default=2, choices=(2, 3), help="Side of a box: boards are 4 x 4 or 9 x 9.")
    parser.add_argument("--minutes", type=float, default=5.0, help="CPU minutes of training.")
    parser.add_argument("--planner-minutes", type=float, default=2.0, help="CPU minutes of training the planner.")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--grids", type=int, default=20_000, help="Training grids of 9 x 9 cells.")
    parser.add_argument("--tests", type=int, default=500, help="Test boards; at most a quarter of all grids of 4 x 4.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    side, cells = options.box**2, options.box**4
    grids, answers, givens = boards(options.box, options.grids, options.tests, options.seed)
    shown = (givens != EMPTY).sum(1).double()
    print(f"{len(grids)} training grids, {len(givens)} test boards with {shown.mean():.1f} of {cells} cells given")
    space, path = Tokens(side, (cells,), MaskSource()), Mixture(source=MaskSource())
    network = BoardNetwork(options.box, options.width, options.depth)
    # the symmetries of 4 x 4 grids lead to all 288, the test grids included
    is_augmented = options.box == 3
    objective = FlowMatching(path, space, MaskedTokenLoss(CrossEntropy()), LateTimes())
    steps = train(network, objective, grids, options.box, options.minutes, options.batch, is_augmented)
    planner = copy.deepcopy(network)
    training = PlannerTraining(path, space, TokenSampler(), LateTimes()).build(TrainingContext(teacher=network))
    planner_steps = train(planner, training, grids, options.box, options.planner_minutes, options.batch, is_augmented)
    rows: dict[str, Any] = {
        "random": {"unmasking_order": ConfidenceOrder(math.inf)},
        "left to right": {"unmasking_order": LeftToRight()},
        "confidence": {"unmasking_order": ConfidenceOrder(0.0)},
        "margin": {"unmasking_order": MarginOrder()},
        "entropy": {"unmasking_order": EntropyOrder()},
        "P2, self-planning": {"unmasking_order": PathPlanning()},
        "learned planner": {"unmasking_order": LearnedOrder(planner)},
        "P2, learned planner": {"unmasking_order": PathPlanning(LearnedOrder(planner))},
        "threshold 0.9": {"unmasking_count": ConfidenceThreshold(0.9)},
        "threshold 0.99": {"unmasking_count": ConfidenceThreshold(0.99)},
    }
    numbers: dict[str, Any] = {"steps": steps, "planner_steps": planner_steps, "givens": shown.mean().item()}
    for name, choice in rows.items():
        sampler = Mixture(source=MaskSource(), token_sampler=TokenSampler(temperature=0.0), **choice)
        filled, calls = solve(sampler, network, givens, side, options.seed)
        numbers[name] = {"solved": (filled == answers).all(1).double().mean().item(), "nfe": calls}
        print(f"{name:22s} solved {numbers[name]['solved']:.3f}, {calls:.1f} evaluations", flush=True)
    print(json.dumps(numbers))
    return numbers


if __name__ == "__main__":
    main()
