"""What guidance by the text does to pictures, and whether the best weight depends on the size."""

import functools
import statistics
from collections.abc import Iterator

from feller.draws import Draws
from feller.journeys.documents.write import PLAUSIBLE
from feller.reproduce.claims import Claim, mean_of, spread_of, verdict
from feller.reproduce.cm3leon.asking import pictures
from feller.reproduce.cm3leon.differences import dips, rises
from feller.reproduce.cm3leon.models import base
from feller.reproduce.cm3leon.reading import agreement, read_scenes
from feller.reproduce.cm3leon.scenes import Scene
from feller.reproduce.cm3leon.setting import Setting
from feller.reproduce.cm3leon.world import world
from feller.tokens.generate import Way
from feller.tokens.guides import Guided

PARTS = ("ground", "count", "colours", "shapes")
"""Of a scene that are read in a picture."""
AMONG = {0.0: "among all symbols", PLAUSIBLE: f"among symbols {PLAUSIBLE:g} times as likely as the likeliest, or more"}
"""Which symbols may come: shares of the probability of the likeliest, and their names."""
RISES = 0.7
"""Rank correlation of weights and accuracy that is asked for: of five weights one pair may be out of order."""


def attributes(wanted: list[Scene], found: list[Scene]) -> float:
    """Return the share of what was asked for that was read: the ground, how many things, all colours, all shapes."""
    read = agreement(wanted, found)
    return statistics.fmean(read[part] for part in PARTS)


@functools.cache
def swept(setting: Setting, seed: int, dial: int, alpha: float) -> tuple[tuple[float, float], ...]:
    """Return FD-cnn and the share of attributes that are right, for each weight."""
    it, network = world(setting, seed), base(setting, seed, dial)
    asked, scenes = it.seen.documents[: setting.drawn], list(it.scenes[: setting.drawn])
    found = []
    for w in setting.weights:
        drawn = pictures(network, it, asked, Draws(seed).named("guidance", dial), ways=(Way(Guided(w, alpha)),))
        found.append((it.judged(drawn), attributes(scenes, read_scenes(drawn))))
    return tuple(found)


def weights(setting: Setting) -> Iterator[Claim]:
    """FD-cnn and accuracy of the usual size at each weight, among all symbols and among plausible ones."""
    names = ", ".join(f"{w:g}" for w in setting.weights)
    best: dict[float, list[float]] = {}
    for alpha, among in AMONG.items():
        each = [swept(setting, seed, setting.dial, alpha) for seed in setting.seeds]
        distances, shares = ([[pair[i] for pair in one] for one in each] for i in (0, 1))
        best[alpha] = [max(one) for one in shares] if not alpha else [min(one) for one in shares]
        yield Claim(
            f"guidance {among} is best at a weight that is neither least nor most",
            "FID over weights from 1 to 7 is a U, with its least near 3",
            f"FD-cnn of scenes at w = {names}: {_means(distances)}",
            f"{setting.over}; {sum(map(dips, distances))} with the least inside, a tenth below both ends",
            verdict(all(map(dips, distances))),
        )
        climbs = [rises(one) for one in shares]
        yield Claim(
            f"more guidance {among} brings pictures nearer to their text",
            "not in the paper; the reason to guide",
            f"share of ground, number, colours and shapes that are right at w = {names}: {_means(shares)}",
            f"{setting.over}; rank correlation with the weight {mean_of(climbs, 3)}, asked {RISES:g} of each",
            verdict(min(climbs) >= RISES),
        )
    yield Claim(
        "among plausible symbols guidance draws more that is right at any weight than among all at the best one",
        "not in the paper; the set of contrastive decoding with k = 1",
        f"share that is right {mean_of(best[PLAUSIBLE], 3)} at the worst weight, among all {mean_of(best[0.0], 3)} at "
        "the best",
        f"{spread_of(best[PLAUSIBLE])} at the worst",
        verdict(all(worst > other for worst, other in zip(best[PLAUSIBLE], best[0.0], strict=True))),
    )


def sizes(setting: Setting) -> Iterator[Claim]:
    """The weight with the least FD-cnn, of three sizes."""
    for alpha, among in AMONG.items():
        best = {dial: [_best(setting, seed, dial, alpha) for seed in setting.seeds] for dial in setting.dials}
        places = [setting.weights.index(w) for found in best.values() for w in found]
        told = "; ".join(f"dial {dial}: {', '.join(f'{w:g}' for w in found)}" for dial, found in best.items())
        yield Claim(
            f"the best weight of guidance {among} does not depend on the size",
            "the same for 350M, 760M and 7B",
            f"weights with the least FD-cnn: {told}",
            f"{setting.over}; asked to be the same or neighbours of the sweep, and not all 1, which is none",
            verdict(max(places) - min(places) <= 1 and max(places) > 0),
        )


def _best(setting: Setting, seed: int, dial: int, alpha: float) -> float:
    distances = [distance for distance, _ in swept(setting, seed, dial, alpha)]
    return setting.weights[distances.index(min(distances))]


def _means(rows: list[list[float]]) -> str:
    return ", ".join(mean_of(column, 3) for column in zip(*rows, strict=True))
