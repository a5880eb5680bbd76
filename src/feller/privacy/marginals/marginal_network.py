"""Graphical model as a network: potentials stored as weights, and sampling of rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.network_config import NetworkConfig
from feller.privacy.marginals.elimination import Clique
from feller.privacy.marginals.marginal_model import AllowedCombinations, MarginalModel
from feller.spaces.table_tokens import TableTokens


@dataclass(frozen=True)
class MarginalTables(NetworkConfig):
    """Config of a graphical model with one potential table per clique; before a fit, valid rows are equally likely."""

    rows: TableTokens
    cliques: tuple[Clique, ...] = ()
    """Columns of each potential table; empty before the fit."""

    def __post_init__(self) -> None:
        if any(num_tokens != 1 for num_tokens in self.rows.tokens_per_column):
            raise UsageError(
                "columns tokenised digit by digit have too many values for marginals",
                remedy="Use bins for these columns",
            )

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "MarginalNetwork":
        if shape != (len(self.rows.columns),) or conditions:
            raise UsageError(f"rows of {len(self.rows.columns)} columns and no conditions", shape)
        return MarginalNetwork(self)


class MarginalNetwork(nn.Module):
    """Network of `MarginalTables`: its weights are log-potentials, fitted to counts instead of trained by gradients."""

    def __init__(self, settings: MarginalTables) -> None:
        super().__init__()
        rows = settings.rows
        self.counts, self.rules = rows.vocab_sizes, allowed_combinations(rows)
        self.cliques = settings.cliques or ((0,),)  # at least one weight, which defines the device
        self.potential = nn.ParameterDict()
        for clique in self.cliques:
            table = torch.zeros([rows.vocab_sizes[j] for j in clique], dtype=torch.float64)
            self.potential[_name(clique)] = nn.Parameter(table, requires_grad=False)

    def model(self) -> MarginalModel:
        """Return the graphical model, on the CPU."""
        potentials = (self.potential[_name(clique)].cpu() for clique in self.cliques)
        return MarginalModel(self.counts, self.cliques, tuple(potentials), 1.0, self.rules)

    def forward(self, x_t: Int64[Tensor, "n k"], t: Tensor, cond: Cond) -> Float64[Tensor, " n"]:
        """Return the exact log-probability of each row, in nats; t and cond are ignored."""
        return self.model().log_prob(x_t.cpu()).to(x_t.device)

    def sample(
        self,
        n: int,
        rng: Rng,
        observed: tuple[Int64[Tensor, "n k"], Bool[Tensor, "n k"]] | None = None,
        excluded_codes: Int64[Tensor, " k"] | None = None,
        odds: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> Int64[Tensor, "n k"]:
        """Sample independent rows, each from its exact conditional distribution given the observed columns.

        Without `observed`, the arguments `excluded_codes` and `odds` are ignored.

        Args:
            n: Number of rows.
            rng: Random streams.
            observed: Codes of whole rows, and the mask of the observed codes; None samples whole rows.
            excluded_codes: Code per column (-1 for none) that is sampled only if no other code is possible.
            odds: Column -> function from codes to the weight by which each code's probability is multiplied.
        """
        model, device = self.model(), next(self.parameters()).device
        if observed is None:
            return model.sample(n, rng).to(device)
        for column, weight_fn in (odds or {}).items():
            log_weights = weight_fn(torch.arange(self.counts[column])).log()
            model = replace(
                model, cliques=(*model.cliques, (column,)), potentials=(*model.potentials, log_weights.double())
            )
        codes = model.sample_missing(
            observed[0].cpu(),
            observed[1].cpu(),
            rng,
            excluded_codes=None if excluded_codes is None else excluded_codes.tolist(),
        )
        return codes.to(device)

    def column_probs(
        self, codes: Int64[Tensor, "n k"], observed: Bool[Tensor, "n k"], column: int
    ) -> Float64[Tensor, "n values"]:
        """Return the exact conditional probabilities of a column's codes given the observed codes of each row."""
        return self.model().column_probs(codes.cpu(), observed.cpu(), column).to(codes.device)


def network_from_model(rows: TableTokens, model: MarginalModel) -> tuple[MarginalTables, MarginalNetwork]:
    """Return the config and the network that represent a fitted graphical model of the table space `rows`."""
    config = MarginalTables(rows, model.cliques)
    network = MarginalNetwork(config)
    for clique, potential in zip(model.cliques, model.potentials, strict=True):
        network.potential[_name(clique)].data.copy_(potential)
    return config, network


def allowed_combinations(rows: TableTokens) -> AllowedCombinations:
    """Return the constraints between columns of the table space `rows`, in the format of `MarginalModel.rules`."""
    return tuple(((rule.first, rule.second), rule.allowed_mask()) for rule in rows.constraints)


def _name(clique: Clique) -> str:
    return "-".join(map(str, clique))
