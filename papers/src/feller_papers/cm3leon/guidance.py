"""What guidance by the text does to pictures, and whether the best weight depends on the size."""

import functools
import statistics
from collections.abc import Iterator

from feller.app.workflows.documents.generate_documents import DEFAULT_MIN_P
from feller.core.rng import Rng
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.document_decoding import SamplingSpec
from feller.sampling.autoregressive.token_guidance import ClassifierFreeGuidance
from feller_papers.claims import Claim, mean_of, numbers_of, seeds_of, spread_of, verdict
from feller_papers.cm3leon.asking import TOP_P, pictures
from feller_papers.cm3leon.differences import dips, means, rises
from feller_papers.cm3leon.models import base
from feller_papers.cm3leon.reading import agreement, read_scenes
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import world
from feller_papers.scenes.drawing import Scene

PARTS = ("ground", "count", "colours", "shapes")
"""Of a scene that are read in a picture."""
AMONG: dict[str, tuple[float, TokenSampler]] = {
    "among all symbols": (0.0, TokenSampler()),
    "with top-p": (0.0, TOP_P.token_sampler),
    f"among symbols {DEFAULT_MIN_P:g} times as likely as the likeliest, or more": (DEFAULT_MIN_P, TokenSampler()),
}
"""Which symbols may come: least share of the probability of the likeliest, and what is cut from what is blended; the
last is ours."""
RISES = 0.7
"""Rank correlation of weights and accuracy that is asked for: of five weights two pairs may be out of order."""
GAIN = 0.05
"""Share of attributes that are right, by which one way must be above another."""


def attributes(wanted: list[Scene], found: list[Scene]) -> float:
    """Return the share of what was asked for that was read: the ground, how many things, all colours, all shapes."""
    read = agreement(wanted, found)
    return statistics.fmean(read[part] for part in PARTS)


@functools.cache
def swept(setting: Setting, seed: int, dial: int, among: str) -> tuple[tuple[float, float], ...]:
    """Return FD-cnn and the share of attributes that are right, for each weight."""
    it, network = world(setting, seed), base(setting, seed, dial)
    asked, scenes, (alpha, choice) = it.seen.documents[: setting.drawn], list(it.scenes[: setting.drawn]), AMONG[among]
    found = []
    for w in setting.weights:
        ways = (SamplingSpec(ClassifierFreeGuidance(w, alpha), choice),)
        drawn = pictures(network, it, asked, Rng(seed).fold_in("guidance", dial), ways=ways)
        found.append((it.judged(drawn), attributes(scenes, read_scenes(drawn))))
    return tuple(found)


def weights(setting: Setting) -> Iterator[Claim]:
    """FD-cnn and accuracy of the usual size at each weight, in each way."""
    names = numbers_of(setting.weights)
    guided: list[list[float]] = []  # for each way and seed, the mean share above weight 1
    for among in AMONG:
        each = [swept(setting, seed, setting.dial, among) for seed in setting.seeds]
        distances, shares = ([[pair[i] for pair in one] for one in each] for i in (0, 1))
        guided.append([statistics.fmean(one[1:]) for one in shares])
        yield Claim(
            f"guidance {among} is best at a weight that is neither least nor most",
            "FID over weights from 1 to 7 is a U, in a plot",
            f"FD-cnn of scenes at w = {names}: {', '.join(means(distances))}",
            f"{seeds_of(setting.seeds)}; {sum(map(dips, distances))} with the least inside, a tenth below both ends",
            verdict(all(map(dips, distances))),
        )
        climbs = [rises(one) for one in shares]
        yield Claim(
            f"more guidance {among} brings pictures nearer to their text",
            "not in the paper; the reason to guide",
            f"share of ground, number, colours and shapes that are right at w = {names}: {', '.join(means(shares))}",
            f"{seeds_of(setting.seeds)}; rank correlation with the weight {mean_of(climbs, 3)}, asked {RISES:g} of"
            " each",
            verdict(min(climbs) >= RISES),
        )
    *others, ours = guided
    gains = [share - max(rest) for share, *rest in zip(ours, *others, strict=True)]
    yield Claim(
        "guided by weights above 1, more is right among plausible symbols than among all, with top-p or without",
        "not in the paper; the set of contrastive decoding with k = 1",
        f"share that is right more by {mean_of(gains, 3)}, over these weights",
        f"{spread_of(gains)}; asked to be {GAIN:g} each",
        verdict(min(gains) >= GAIN),
    )


def sizes(setting: Setting) -> Iterator[Claim]:
    """The weight with the least FD-cnn, of three sizes."""
    last = len(setting.weights) - 1
    for among in AMONG:
        best = {dial: [_best(setting, seed, dial, among) for seed in setting.seeds] for dial in setting.dials}
        places = [setting.weights.index(w) for found in best.values() for w in found]
        told = "; ".join(f"dial {dial}: {', '.join(f'{w:g}' for w in found)}" for dial, found in best.items())
        yield Claim(
            f"the best weight of guidance {among} does not depend on the size",
            "the same for 350M, 760M and 7B",
            f"weights with the least FD-cnn: {told}",
            f"{seeds_of(setting.seeds)}; asked to be the same or neighbours of the sweep, and not all at one end of it",
            verdict(max(places) - min(places) <= 1 and max(places) > 0 and min(places) < last),
        )


def _best(setting: Setting, seed: int, dial: int, among: str) -> float:
    distances = [distance for distance, _ in swept(setting, seed, dial, among)]
    return setting.weights[distances.index(min(distances))]
