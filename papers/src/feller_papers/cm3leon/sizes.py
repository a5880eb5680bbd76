"""Whether larger decoders know held-out documents better after as many tokens."""

import itertools
import math
from collections.abc import Iterator

import torch

from feller.core.rng import Rng
from feller_papers.claims import Claim, mean_of, seeds_of, verdict
from feller_papers.cm3leon.asking import nats
from feller_papers.cm3leon.differences import difference, listed
from feller_papers.cm3leon.models import DOCUMENTS, base
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import world


def perplexity(setting: Setting) -> Iterator[Claim]:
    """Three sizes, the same steps on the same documents."""
    costs: list[list[float]] = [[] for _ in setting.dials]
    steps = []
    for seed in setting.seeds:
        it, draws = world(setting, seed), Rng(seed).fold_in("sizes")
        rows = [it.heads.rows, it.seen.rows]
        each = []
        for dial in setting.dials:
            network = base(setting, seed, dial)
            each.append(torch.cat([nats(network, it, some, draws, count=DOCUMENTS) for some in rows]))
        for values, cost in zip(costs, each, strict=True):
            values.append(math.exp(cost.mean().item()))
        steps += [difference(large, small) for small, large in itertools.pairwise(each)]
    weights = [12_288 * dial**3 for dial in setting.dials]
    told = ", ".join(f"{n / 1e6:.2g}M {mean_of(values)}" for n, values in zip(weights, costs, strict=True))
    yield Claim(
        "larger models have lower perplexity after as many tokens: held-out pictures behind two documents",
        "350M, 760M and 7B: each lower than the one before, at every step",
        f"perplexity of a code, by weights in the blocks: {told}",
        f"{seeds_of(setting.seeds)}; nats a code saved by each step of size {listed(steps)}, each asked to be three"
        " standard errors",
        verdict(all(one.sure for one in steps)),
    )
