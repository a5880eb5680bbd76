"""What documents from a memory are worth: for those like the training data, and for what only the memory shows."""

import math
import statistics
from collections.abc import Iterator

import torch

from feller.core.rng import Rng
from feller.sampling.retrieval.retriever import RandomRetriever
from feller_papers.claims import Claim, mean_of, seeds_of, spread_of, verdict
from feller_papers.cm3leon.asking import nats, pictures
from feller_papers.cm3leon.differences import CLEAR, Difference, difference, listed, of_shares
from feller_papers.cm3leon.models import DOCUMENTS, base
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.spotting import spot
from feller_papers.cm3leon.world import world

LITTLE = 0.1
"""Of what found documents are worth, the share that any may be worth by the same account."""


def perplexity(setting: Setting) -> Iterator[Claim]:
    """Held-out pictures behind none, one and two documents that are found by their words, and behind two of any."""
    costs: dict[str, list[float]] = {"0": [], "1": [], "2": [], "two of any": []}
    steps: list[tuple[Difference, Difference]] = []
    against: list[Difference] = []
    scenes: list[tuple[float, float]] = []
    for seed in setting.seeds:
        it, network, draws = world(setting, seed), base(setting, seed, setting.dial), Rng(seed).fold_in("perplexity")
        rows = it.heads.rows
        none, one, two = (nats(network, it, rows, draws.fold_in(count), count=count) for count in (0, 1, 2))
        chance = nats(network, it, rows, draws.fold_in("chance"), count=2, how=RandomRetriever())
        for name, cost in zip(costs, (none, one, two, chance), strict=True):
            costs[name].append(math.exp(cost.mean().item()))
        steps.append((difference(one, none), difference(two, one)))
        against.append(difference(chance, none))
        others = [nats(network, it, it.seen.rows, draws.fold_in("scenes", count), count=count) for count in (0, 2)]
        scenes.append((math.exp(others[0].mean().item()), math.exp(others[1].mean().item())))
    told = ", ".join(f"{name} documents {mean_of(values)}" for name, values in list(costs.items())[:3])
    beside = ", ".join(mean_of([pair[i] for pair in scenes]) for i in (0, 1))
    yield Claim(
        "more retrieved documents are better: held-out views of creatures, found by their captions alone",
        "FID 10.82, 5.78 and 4.88 with 0, 1 and 2 documents; perplexities are not printed",
        f"perplexity of a code behind {told}; of scenes, of which nothing is like another, behind 0 and 2: {beside}",
        f"{seeds_of(setting.seeds)}; nats a code saved by the first {listed([a for a, _ in steps])}, by the second "
        f"{listed([b for _, b in steps])}, each asked to be three standard errors",
        verdict(all(a.sure and b.sure for a, b in steps)),
    )
    gains = [a.mean + b.mean for a, b in steps]
    yield Claim(
        "it is what the documents say that helps: two of any, drawn by chance, are worth nothing",
        "not in the paper",
        f"perplexity of a code {mean_of(costs['two of any'])}, without any {mean_of(costs['0'])}",
        f"{seeds_of(setting.seeds)}; nats a code saved {listed(against)}, asked to be at most a tenth of what found"
        " ones save",
        verdict(all(gain > 0 and one.mean <= LITTLE * gain for one, gain in zip(against, gains, strict=True))),
    )


def unseen(setting: Setting) -> Iterator[Claim]:
    """Creatures that no pair shows, drawn from their names with and without the memory that shows them."""
    right: list[tuple[float, float]] = []
    far: list[tuple[float, float]] = []
    apart, chance = [], 1 / setting.tails
    for seed in setting.seeds:
        it, network, draws = world(setting, seed), base(setting, seed, setting.dial), Rng(seed).fold_in("unseen")
        names = [creature.name for creature in it.tail]
        drawn = [
            pictures(network, it, it.tails.documents, draws.fold_in(count), count=count) for count in (0, DOCUMENTS)
        ]
        hits = [
            statistics.fmean(view.creature.name == name for view, name in zip(spot(some, it.tail), names, strict=True))
            for some in drawn
        ]
        distances = [it.judge.distance(some, it.tails.pictures) for some in drawn]
        right.append((hits[0], hits[1]))
        far.append((distances[0], distances[1]))
        apart.append(of_shares(hits[1], hits[0], len(names)))
    without, beside = ([pair[i] for pair in right] for i in (0, 1))
    yield Claim(
        "a memory lets a model draw what it never learned: creatures that only the memory shows",
        "not in the paper; RA-CM3 shows it by examples",
        f"the right one of {setting.tails} in {mean_of(beside, 3)} of the pictures behind two documents, in "
        f"{mean_of(without, 3)} behind none; chance {chance:.3g}",
        f"{spread_of(beside)} behind two; apart by {listed(apart)}, asked to be three standard errors",
        verdict(all(one.sure for one in apart)),
    )
    yield Claim(
        "FD-cnn of these pictures, in the eyes of a judge of scenes",
        "not in the paper",
        f"{mean_of([b for _, b in far], 3)} behind two documents, {mean_of([a for a, _ in far], 3)} behind none",
        f"{spread_of([b for _, b in far])} behind two",
        verdict(all(b < a for a, b in far)),
    )


def same_steps(setting: Setting) -> Iterator[Claim]:
    """The paper's saving of compute, as far as it can be asked here: the same steps with and without retrieval."""
    pairs: list[tuple[float, float]] = []
    for seed in setting.seeds:
        it, draws = world(setting, seed), Rng(seed).fold_in("same steps")
        half = setting.drawn // 2
        asked = [*it.heads.documents[:half], *it.seen.documents[:half]]
        real = torch.cat([it.heads.pictures[:half], it.seen.pictures[:half]])
        distances = [
            it.judge.distance(
                pictures(base(setting, seed, setting.dial, count), it, asked, draws.fold_in(count), count=count), real
            )
            for count in (0, DOCUMENTS)
        ]
        pairs.append((distances[0], distances[1]))
    ratio = [b / a for a, b in pairs]
    yield Claim(
        "retrieval in training saves compute; here only: FD-cnn of pictures, creatures and scenes, "
        "after the same steps with it and without",
        "five times less compute than models of the same quality",
        f"{mean_of([b for _, b in pairs], 3)} with it, {mean_of([a for a, _ in pairs], 3)} without, {setting.steps:,} "
        "steps each; a step with it reads more symbols",
        f"{spread_of(ratio)} of the ratio, asked to be a tenth below 1 each",
        verdict(CLEAR * max(ratio) <= 1),
    )
