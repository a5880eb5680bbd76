"""Perplexity of decoders by size, after the same number of tokens."""

import itertools
import math
from collections.abc import Iterator

import torch

from feller.core.rng import Rng
from feller_papers.claims import Claim, mean_of, seeds_of, verdict
from feller_papers.cm3leon.asking import code_nlls
from feller_papers.cm3leon.differences import difference, format_differences
from feller_papers.cm3leon.models import MAX_RETRIEVED, base_model
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import experiment_data


def perplexity(setting: Setting) -> Iterator[Claim]:
    """Perplexity of three sizes, after the same steps on the same documents."""
    perplexities: list[list[float]] = [[] for _ in setting.dials]
    steps = []
    for seed in setting.seeds:
        data, rng = experiment_data(setting, seed), Rng(seed).fold_in("sizes")
        rows = [data.head_views.rows, data.test_scenes.rows]
        nlls = []
        for dial in setting.dials:
            network = base_model(setting, seed, dial)
            nlls.append(
                torch.cat([code_nlls(network, data, documents, rng, num_retrieved=MAX_RETRIEVED) for documents in rows])
            )
        for values, nll in zip(perplexities, nlls, strict=True):
            values.append(math.exp(nll.mean().item()))
        steps += [difference(large, small) for small, large in itertools.pairwise(nlls)]
    weights = [12_288 * dial**3 for dial in setting.dials]
    summary = ", ".join(f"{n / 1e6:.2g}M {mean_of(values)}" for n, values in zip(weights, perplexities, strict=True))
    yield Claim(
        "larger models have lower perplexity after as many tokens: held-out pictures behind two documents",
        "350M, 760M and 7B: each lower than the one before, at every step",
        f"perplexity of a code, by weights in the blocks: {summary}",
        f"{seeds_of(setting.seeds)}; nats a code saved by each step of size {format_differences(steps)}, each asked to"
        " be three"
        " standard errors",
        verdict(all(step.significant for step in steps)),
    )
