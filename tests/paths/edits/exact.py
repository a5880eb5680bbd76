"""Exact marginals and predictions of edit paths on short sequences, by enumeration of all slots."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.paths.edits.edit_flow import EditFlow
from feller.paths.edits.edit_path import EditPath
from feller.paths.edits.insertion_masking import InsertionMasking

F64 = torch.float64
Sequence = tuple[int, ...]


def padded(sequences: list[Sequence], length: int, pad: int) -> Tensor:
    return torch.tensor([[*tokens, *[pad] * (length - len(tokens))] for tokens in sequences])


def unpadded(row: Tensor, pad: int) -> Sequence:
    return tuple(token for token in row.tolist() if token != pad)


def stage_probs(path: EditPath, stages: Tensor, is_used: Tensor, tau: Tensor) -> Tensor:
    """Return the probability of each row of stages of the used slots at time tau."""
    sigma = (-tau).exp()
    if isinstance(path, InsertionMasking):
        each = torch.stack([sigma, sigma * tau, 1 - sigma - sigma * tau])
        return torch.where(is_used, each[stages], torch.where(stages == 0, 1.0, 0.0).to(F64)).prod(1)
    assert isinstance(path, EditFlow)
    if not path.propagation:
        each = torch.stack([sigma, 1 - sigma])
        return torch.where(is_used, each[stages], torch.where(stages == 0, 1.0, 0.0).to(F64)).prod(1)
    generator = torch.zeros(len(stages), len(stages), dtype=F64)
    index = {tuple(row): i for i, row in enumerate(stages.tolist())}
    for row, i in index.items():
        for slot, stage in enumerate(row):
            if stage or not is_used[slot]:
                continue
            neighbours = sum(row[k] for k in (slot - 1, slot + 1) if 0 <= k < len(row))
            j = index[(*row[:slot], 1, *row[slot + 1 :])]
            generator[i, j] += 1 + path.propagation * neighbours
            generator[i, i] -= 1 + path.propagation * neighbours
    return torch.linalg.matrix_exp(tau * generator)[0]


@dataclass
class ExactPath:
    """Marginals and exact predictions of an edit path between two finite distributions of sequences."""

    path: EditPath
    source: dict[Sequence, float]
    data: dict[Sequence, float]

    def __post_init__(self) -> None:
        space = self.path.space
        num_stages = 3 if isinstance(self.path, InsertionMasking) else 2
        self.pairs = []
        for (start, p_0), (end, p_1) in itertools.product(self.source.items(), self.data.items()):
            ends = (padded([tokens], space.max_length, space.pad_token_id) for tokens in (start, end))
            z_0, z_1 = self.path.alignment(*ends, space.pad_token_id)
            stages = torch.tensor(list(itertools.product(range(num_stages), repeat=z_1.shape[1])))
            is_used = ((z_0 != space.pad_token_id) | (z_1 != space.pad_token_id))[0]
            n = len(stages)
            slots = (z_0.expand(n, -1), z_1.expand(n, -1), stages)
            x, target = self.path.without_blanks(self.path.slots(*slots)), self.path.slot_target(*slots)
            states = [unpadded(row, space.pad_token_id) for row in x]
            self.pairs.append((end, p_0 * p_1, stages, is_used, states, target))

    def _none(self) -> dict[str, Tensor]:
        places, vocab = self.path.space.max_length + 1, self.path.space.vocab_size
        num_inserted = 1 if self.path.inserts_masks else vocab
        shapes = {"insert": (places, num_inserted), "substitute": (places, vocab), "delete": (places,)}
        return {name: torch.zeros(shape, dtype=F64) for name, shape in shapes.items()}

    def joint(self, tau: Tensor) -> list[Tensor]:
        """Return the probabilities of source, data and stages, one tensor for each pair."""
        return [weight * stage_probs(self.path, stages, used, tau) for _, weight, stages, used, _, _ in self.pairs]

    def marginal(self, tau: Tensor) -> dict[Sequence, Tensor]:
        out: dict[Sequence, Tensor] = {}
        for probs, (*_, states, _target) in zip(self.joint(tau), self.pairs, strict=True):
            for p, state in zip(probs, states, strict=True):
                out[state] = out.get(state, 0) + p
        return out

    def predictions(self, tau: Tensor) -> dict[Sequence, dict[str, Tensor]]:
        """Return the prediction of a network that knows all posterior mean rates, for each state."""
        marginal = self.marginal(tau)
        rates = {state: self._none() for state in marginal}
        for probs, (*_, states, target) in zip(self.joint(tau), self.pairs, strict=True):
            for i, (p, state) in enumerate(zip(probs, states, strict=True)):
                for name, total in rates[state].items():
                    total += p * target[name][i]
        out = {}
        insert_prior, change_prior = (float(prior) for prior in self.path.log_prior(1 - (-tau)[None].exp()))
        for state, totals in rates.items():
            mean = {name: (total / marginal[state]).clamp(min=0) for name, total in totals.items()}
            insert, substitute, delete = mean["insert"], mean["substitute"], mean["delete"]
            if isinstance(self.path, InsertionMasking):
                out[state] = {
                    "insert": insert.sum(1).log() - insert_prior,
                    "insert_token": substitute.log().nan_to_num(neginf=-1e4),
                }
            else:
                out[state] = {
                    "insert": insert.sum(1).log() - insert_prior,
                    "insert_token": insert.log().nan_to_num(neginf=-1e4),
                    "substitute": substitute.sum(1).log() - change_prior,
                    "substitute_token": substitute.log().nan_to_num(neginf=-1e4),
                    "delete": delete.log() - change_prior,
                }
        return out

    def network(self) -> Callable[[Tensor, Tensor, dict[str, Tensor]], dict[str, Tensor]]:
        """Return the exact predictions as a network; states outside the support have no edits."""
        cache: dict[float, dict[Sequence, dict[str, Tensor]]] = {}
        space = self.path.space

        def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
            rows = []
            for row, time in zip(x, t.tolist(), strict=True):
                if time not in cache:
                    sigma = self.path.schedule(torch.tensor(time, dtype=F64)).sigma
                    cache[time] = self.predictions(-torch.as_tensor(sigma, dtype=F64).log())
                first = next(iter(cache[time].values()))
                none = {name: torch.full_like(value, -1e4) for name, value in first.items()}
                rows.append(cache[time].get(unpadded(row, space.pad_token_id), none))
            return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

        return network

    def outgoing(self, state: Sequence, prediction: dict[str, Tensor], tau: Tensor) -> dict[Sequence, float]:
        """Return the rate per unit of tau to each other state, from the rates that the path reads."""
        space = self.path.space
        x = padded([state], space.max_length, space.pad_token_id)
        log_rates = self.path.log_rates(
            {name: value[None] for name, value in prediction.items()}, x, 1 - (-tau)[None].exp()
        )
        insert, insert_token, substitute, substitute_token, delete = (value[0] for value in log_rates)
        out: dict[Sequence, float] = {}

        def add(new: Sequence, rate: Tensor) -> None:
            if float(rate) > 0:
                out[new] = out.get(new, 0.0) + float(rate)

        for j in range(len(state) + 1):
            if len(state) < space.max_length:
                for token, p in enumerate(insert_token[j].softmax(0)):
                    inserted = space.mask_token_id if self.path.inserts_masks else token
                    add((*state[:j], inserted, *state[j:]), insert[j].exp() * p)
            if j:
                for token, p in enumerate(substitute_token[j].softmax(0)):
                    add((*state[: j - 1], token, *state[j:]), substitute[j].exp() * p)
                add((*state[: j - 1], *state[j:]), delete[j].exp())
        return out


def random_data(num: int, vocab_size: int, max_length: int, seed: int) -> dict[Sequence, float]:
    """Return random probabilities of random distinct sequences, among them the empty one."""
    generator = torch.Generator().manual_seed(seed)
    everything = [tokens for n in range(max_length + 1) for tokens in itertools.product(range(vocab_size), repeat=n)]
    chosen = torch.randperm(len(everything) - 1, generator=generator)[: num - 1] + 1
    weights = torch.rand(num, generator=generator, dtype=F64) + 0.2
    weights = weights / weights.sum()
    return {everything[i]: float(w) for i, w in zip([0, *chosen.tolist()], weights, strict=True)}


def total_variation(counts: dict[Sequence, float], probs: dict[Sequence, float]) -> float:
    return sum(abs(counts.get(x, 0.0) - probs.get(x, 0.0)) for x in counts.keys() | probs.keys()) / 2
