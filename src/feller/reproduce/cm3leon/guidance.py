"""What guidance by the text does to pictures, and whether the best weight depends on the size."""

import functools
import statistics
from collections.abc import Iterator

from feller.draws import Draws
from feller.journeys.documents.write import PLAUSIBLE
from feller.reproduce.claims import Claim, mean_of, verdict
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
RISES = 0.7
"""Rank correlation of weights and accuracy that is asked for: of five weights one pair may be out of order."""


def attributes(wanted: list[Scene], found: list[Scene]) -> float:
    """Return the share of what was asked for that was read: the ground, how many things, all colours, all shapes."""
    read = agreement(wanted, found)
    return statistics.fmean(read[part] for part in PARTS)


@functools.cache
def swept(setting: Setting, seed: int, dial: int, alpha: float = 0.0) -> tuple[tuple[float, float], ...]:
    """Return FD-cnn and the share of attributes that are right, for each weight."""
    it, network = world(setting, seed), base(setting, seed, dial)
    asked, scenes = it.seen.documents[: setting.drawn], list(it.scenes[: setting.drawn])
    found = []
    for w in setting.weights:
        drawn = pictures(network, it, asked, Draws(seed).named("guidance", dial), ways=(Way(Guided(w, alpha)),))
        found.append((it.judged(drawn), attributes(scenes, read_scenes(drawn))))
    return tuple(found)


def weights(setting: Setting) -> Iterator[Claim]:
    """FD-cnn and accuracy of the usual size at each weight."""
    each = [swept(setting, seed, setting.dial) for seed in setting.seeds]
    distances, shares = ([[pair[i] for pair in one] for one in each] for i in (0, 1))
    names = ", ".join(f"{w:g}" for w in setting.weights)
    yield Claim(
        "guidance is best at a weight that is neither least nor most",
        "FID over weights from 1 to 7 is a U, with its least near 3",
        f"FD-cnn of scenes at w = {names}: {_means(distances)}",
        f"{setting.over}; {sum(map(dips, distances))} with the least inside, a tenth below both ends",
        verdict(all(map(dips, distances))),
    )
    climbs = [rises(one) for one in shares]
    yield Claim(
        "more guidance brings pictures nearer to their text",
        "not in the paper; the reason to guide",
        f"share of ground, number, colours and shapes that are right at w = {names}: {_means(shares)}",
        f"{setting.over}; rank correlation with the weight {mean_of(climbs, 3)}, asked {RISES:g} of each",
        verdict(min(climbs) >= RISES),
    )


def among_the_likely(setting: Setting) -> Iterator[Claim]:
    """The same, where symbols may come that are not much less likely than the likeliest one."""
    each = [swept(setting, seed, setting.dial, PLAUSIBLE) for seed in setting.seeds]
    plain = [swept(setting, seed, setting.dial) for seed in setting.seeds]
    distances, shares = ([[pair[i] for pair in one] for one in each] for i in (0, 1))
    least, drop = min(map(min, shares)), [max(share for _, share in one) for one in plain]
    names = ", ".join(f"{w:g}" for w in setting.weights)
    yield Claim(
        f"guidance does no harm among symbols that are at least {PLAUSIBLE:g} times as likely as the likeliest",
        "not in the paper; the set of contrastive decoding with k = 1",
        f"share that is right at w = {names}: {_means(shares)}; FD-cnn {_means(distances)}",
        f"{setting.over}; {least:.3g} at least, asked to be above the best without this set, {mean_of(drop, 3)}",
        verdict(all(min(ours) > best for ours, best in zip(shares, drop, strict=True))),
    )


def sizes(setting: Setting) -> Iterator[Claim]:
    """The weight with the least FD-cnn, of three sizes."""
    best = {dial: [_best(setting, seed, dial) for seed in setting.seeds] for dial in setting.dials}
    places = {dial: [setting.weights.index(w) for w in found] for dial, found in best.items()}
    told = "; ".join(f"dial {dial}: {', '.join(f'{w:g}' for w in found)}" for dial, found in best.items())
    yield Claim(
        "the best weight of guidance does not depend on the size",
        "the same for 350M, 760M and 7B",
        f"weights with the least FD-cnn: {told}",
        f"{setting.over}; asked to be the same, or neighbours of the sweep",
        verdict(max(map(max, places.values())) - min(map(min, places.values())) <= 1),
    )


def _best(setting: Setting, seed: int, dial: int) -> float:
    distances = [distance for distance, _ in swept(setting, seed, dial)]
    return setting.weights[distances.index(min(distances))]


def _means(rows: list[list[float]]) -> str:
    return ", ".join(mean_of(column, 3) for column in zip(*rows, strict=True))
