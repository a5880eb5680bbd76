"""Markov chain of three symbols and length four, with its exact posterior as a network, by enumeration."""

import itertools

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.paths import Mixture
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate

LENGTH, VOCAB_SIZE = 4, 3
INITIAL = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
TRANSITION = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.6, 0.3], [0.25, 0.05, 0.7]], dtype=torch.float64)
SEQUENCES = torch.tensor(list(itertools.product(range(VOCAB_SIZE), repeat=LENGTH)))
PROBS = INITIAL[SEQUENCES[:, 0]] * TRANSITION[SEQUENCES[:, :-1], SEQUENCES[:, 1:]].prod(1)
"""Probability of each sequence, [81]."""
PLACE_VALUES = (VOCAB_SIZE + 1) ** torch.arange(LENGTH - 1, -1, -1)


def posterior(x_t: Tensor) -> Tensor:
    """Return log p(x_i = k | the other revealed tokens of x_t), [b, n, K]: of revealed tokens too."""
    fits = (x_t[:, None] == VOCAB_SIZE) | (x_t[:, None] == SEQUENCES)
    columns = []
    for i in range(LENGTH):
        weights = PROBS * fits[:, :, torch.arange(LENGTH) != i].all(2)
        columns.append(weights @ torch.nn.functional.one_hot(SEQUENCES[:, i], VOCAB_SIZE).double())
    return torch.stack(columns, 1).log()


STATES = torch.tensor(list(itertools.product(range(VOCAB_SIZE + 1), repeat=LENGTH)))
TABLE = posterior(STATES)


def network(x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    """Return the exact posterior of each token."""
    return TABLE[(x_t * PLACE_VALUES).sum(-1)]


def right_logits(x_1: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
    """Return the log odds of p(x_i | x_-i), as a perfect planner of complete sequences."""
    log_p = network(x_1, t, cond).log_softmax(2)
    return log_p - torch.log1p(-log_p.exp())


def total_variation(path: Mixture, steps: int, n: int = 100_000, seed: int = 0) -> float:
    """Return the total variation between n samples of a path with the exact network and the chain."""
    x = torch.full((n, LENGTH), VOCAB_SIZE)
    end = simulate(path.process(network, {}), x, linear_grid(steps), Euler(), Rng(seed))
    index = (end * VOCAB_SIZE ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    return total_variation_of(torch.bincount(index, minlength=len(PROBS)) / n)


def total_variation_of(shares: Tensor) -> float:
    """Return the total variation between shares of the sequences, [81], and the chain."""
    return 0.5 * (shares.double() - PROBS).abs().sum().item()
