"""A graphical model as a network: what a run folder can hold, and what draws whole rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.network_config import NetworkConfig
from feller.privacy.marginals.elimination import Clique
from feller.privacy.marginals.marginal_model import AllowedCombinations, MarginalModel
from feller.spaces.table_tokens import TableTokens


@dataclass(frozen=True)
class MarginalTables(NetworkConfig):
    """A table of potentials for each of some sets of columns; a new one holds all rows without a fault for alike."""

    rows: TableTokens
    cliques: tuple[Clique, ...] = ()
    """Columns of each table; not known before rows were counted."""

    def __post_init__(self) -> None:
        if any(places != 1 for places in self.rows.tokens_per_column):
            raise UsageError(
                "numbers that are written digit by digit have too many values to count", remedy="Give them bins"
            )

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], rng: Rng) -> "MarginalNetwork":
        if shape != (len(self.rows.columns),) or conditions:
            raise UsageError(f"rows of {len(self.rows.columns)} columns and no conditions", shape)
        return MarginalNetwork(self)


class MarginalNetwork(nn.Module):
    """The network of `MarginalTables`: its weights are potentials, which are told by counts and by no gradient."""

    def __init__(self, settings: MarginalTables) -> None:
        super().__init__()
        rows = settings.rows
        self.counts, self.rules = rows.vocab_sizes, allowed_combinations(rows)
        self.cliques = settings.cliques or ((0,),)  # a device is where the weights are, so there must be some
        self.potential = nn.ParameterDict()
        for clique in self.cliques:
            table = torch.zeros([rows.vocab_sizes[j] for j in clique], dtype=torch.float64)
            self.potential[_name(clique)] = nn.Parameter(table, requires_grad=False)

    def model(self) -> MarginalModel:
        """Return the model, on the processor."""
        potentials = (self.potential[_name(clique)].cpu() for clique in self.cliques)
        return MarginalModel(self.counts, self.cliques, tuple(potentials), 1.0, self.rules)

    def forward(self, x_t: Int64[Tensor, "n k"], t: Tensor, cond: Cond) -> Float64[Tensor, " n"]:
        """Return log p of each row in nats, exact; there is no time, and what is known of a row is in it."""
        return self.model().log_prob(x_t.cpu()).to(x_t.device)

    def sample(
        self,
        n: int,
        rng: Rng,
        observed: tuple[Int64[Tensor, "n k"], Bool[Tensor, "n k"]] | None = None,
        excluded_codes: Int64[Tensor, " k"] | None = None,
        odds: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> Int64[Tensor, "n k"]:
        """Draw rows, independent of each other, each exactly given those of its columns that are known.

        Args:
            n: How many.
            rng: Source of the random numbers.
            observed: Codes, and which of them are kept.
            excluded_codes: Code of each column that is not drawn where another may stand; -1 for none.
            odds: Columns in which codes count more or less than the model says: codes -> how much each counts.
        """
        model, device = self.model(), next(self.parameters()).device
        if observed is None:
            return model.sample(n, rng).to(device)
        for column, weigh in (odds or {}).items():
            weights = weigh(torch.arange(self.counts[column])).log()
            model = replace(
                model, cliques=(*model.cliques, (column,)), potentials=(*model.potentials, weights.double())
            )
        drawn = model.sample_missing(
            observed[0].cpu(),
            observed[1].cpu(),
            rng,
            excluded_codes=None if excluded_codes is None else excluded_codes.tolist(),
        )
        return drawn.to(device)


def network_from_model(rows: TableTokens, model: MarginalModel) -> tuple[MarginalTables, MarginalNetwork]:
    """Return the network that holds a model of such rows, and its settings."""
    settings = MarginalTables(rows, model.cliques)
    network = MarginalNetwork(settings)
    for clique, potential in zip(model.cliques, model.potentials, strict=True):
        network.potential[_name(clique)].data.copy_(potential)
    return settings, network


def allowed_combinations(rows: TableTokens) -> AllowedCombinations:
    """Return the rules of rows, as models take them."""
    return tuple(((rule.first, rule.second), rule.allowed_mask()) for rule in rows.constraints)


def _name(clique: Clique) -> str:
    return "-".join(map(str, clique))
