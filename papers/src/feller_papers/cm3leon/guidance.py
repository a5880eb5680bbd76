"""Classifier-free guidance: FD-cnn and attribute accuracy by weight, and the best weight by model size."""

import functools
import statistics
from collections.abc import Iterator

from feller.app.workflows.documents.generate_documents import DEFAULT_MIN_P
from feller.core.rng import Rng
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.document_decoding import SamplingSpec
from feller.sampling.autoregressive.token_guidance import ClassifierFreeGuidance
from feller_papers.claims import Claim, mean_of, numbers_of, seeds_of, spread_of, verdict
from feller_papers.cm3leon.asking import TOP_P, sample_images
from feller_papers.cm3leon.differences import format_column_means, has_interior_minimum, rank_correlation
from feller_papers.cm3leon.models import base_model
from feller_papers.cm3leon.reading import agreement, read_scenes
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import experiment_data
from feller_papers.scenes.drawing import Scene

PARTS = ("ground", "count", "colours", "shapes")
"""Attributes of scenes that are compared."""
SYMBOL_SETS: dict[str, tuple[float, TokenSampler]] = {
    "among all symbols": (0.0, TokenSampler()),
    "with top-p": (0.0, TOP_P.token_sampler),
    f"among symbols {DEFAULT_MIN_P:g} times as likely as the likeliest, or more": (DEFAULT_MIN_P, TokenSampler()),
}
"""Sets of tokens to sample from: smallest probability relative to the maximum, and token sampler; the last is ours."""
MIN_CORRELATION = 0.7
"""Required rank correlation of weight and accuracy: of five weights, two pairs may be out of order."""
MIN_GAIN = 0.05
"""Required gain of attribute accuracy."""


def attribute_accuracy(expected: list[Scene], predicted: list[Scene]) -> float:
    """Return the mean accuracy of ground, count, colours and shapes."""
    read = agreement(expected, predicted)
    return statistics.fmean(read[part] for part in PARTS)


@functools.cache
def sweep(setting: Setting, seed: int, dial: int, symbol_set: str) -> tuple[tuple[float, float], ...]:
    """Return FD-cnn and attribute accuracy for each weight."""
    data, network = experiment_data(setting, seed), base_model(setting, seed, dial)
    documents, scenes, (alpha, sampler) = (
        data.test_scenes.documents[: setting.num_images],
        list(data.scenes[: setting.num_images]),
        SYMBOL_SETS[symbol_set],
    )
    results = []
    for w in setting.guidance_weights:
        specs = (SamplingSpec(ClassifierFreeGuidance(w, alpha), sampler),)
        images = sample_images(network, data, documents, Rng(seed).fold_in("guidance", dial), specs=specs)
        results.append((data.fd(images), attribute_accuracy(scenes, read_scenes(images))))
    return tuple(results)


def weights(setting: Setting) -> Iterator[Claim]:
    """FD-cnn and attribute accuracy of the default size, by weight and token set."""
    names = numbers_of(setting.guidance_weights)
    guided: list[list[float]] = []  # mean accuracy at weights above 1, by token set and seed
    for symbol_set in SYMBOL_SETS:
        runs = [sweep(setting, seed, setting.dial, symbol_set) for seed in setting.seeds]
        distances, shares = ([[pair[i] for pair in run] for run in runs] for i in (0, 1))
        guided.append([statistics.fmean(run[1:]) for run in shares])
        yield Claim(
            f"guidance {symbol_set} is best at a weight that is neither least nor most",
            "FID over weights from 1 to 7 is a U, in a plot",
            f"FD-cnn of scenes at w = {names}: {', '.join(format_column_means(distances))}",
            f"{seeds_of(setting.seeds)}; {sum(map(has_interior_minimum, distances))} with the least inside, a tenth"
            " below both ends",
            verdict(all(map(has_interior_minimum, distances))),
        )
        correlations = [rank_correlation(run) for run in shares]
        yield Claim(
            f"more guidance {symbol_set} brings pictures nearer to their text",
            "not in the paper; the reason to guide",
            f"share of ground, number, colours and shapes that are right at w = {names}:"
            f" {', '.join(format_column_means(shares))}",
            f"{seeds_of(setting.seeds)}; rank correlation with the weight {mean_of(correlations, 3)}, asked"
            f" {MIN_CORRELATION:g} of"
            " each",
            verdict(min(correlations) >= MIN_CORRELATION),
        )
    *others, ours = guided
    gains = [share - max(rest) for share, *rest in zip(ours, *others, strict=True)]
    yield Claim(
        "guided by weights above 1, more is right among plausible symbols than among all, with top-p or without",
        "not in the paper; the set of contrastive decoding with k = 1",
        f"share that is right more by {mean_of(gains, 3)}, over these weights",
        f"{spread_of(gains)}; asked to be {MIN_GAIN:g} each",
        verdict(min(gains) >= MIN_GAIN),
    )


def sizes(setting: Setting) -> Iterator[Claim]:
    """Weight with the lowest FD-cnn, for three sizes."""
    last = len(setting.guidance_weights) - 1
    for symbol_set in SYMBOL_SETS:
        best = {dial: [_best(setting, seed, dial, symbol_set) for seed in setting.seeds] for dial in setting.dials}
        indices = [setting.guidance_weights.index(w) for best_weights in best.values() for w in best_weights]
        summary = "; ".join(
            f"dial {dial}: {', '.join(f'{w:g}' for w in best_weights)}" for dial, best_weights in best.items()
        )
        yield Claim(
            f"the best weight of guidance {symbol_set} does not depend on the size",
            "the same for 350M, 760M and 7B",
            f"weights with the least FD-cnn: {summary}",
            f"{seeds_of(setting.seeds)}; asked to be the same or neighbours of the sweep, and not all at one end of it",
            verdict(max(indices) - min(indices) <= 1 and max(indices) > 0 and min(indices) < last),
        )


def _best(setting: Setting, seed: int, dial: int, symbol_set: str) -> float:
    distances = [distance for distance, _ in sweep(setting, seed, dial, symbol_set)]
    return setting.guidance_weights[distances.index(min(distances))]
