"""One word for how good samples are, by a rule that is written down in docs/commands.md."""

from collections.abc import Iterator

from feller.evaluation.report.metrics import MEASURES, Numbers
from feller.evaluation.report.wording import is_number

GOOD, FAIR, POOR, GUESSING = "Good", "Fair", "Poor", "Reads like guessing"
USABLE = "Usable"
"""What is fair of a table."""
SKETCH = "Not yet trained"
"""Of a run that is a first sketch, whatever its numbers are, a bridge too."""
NEAR, FAR = 1.1, 1.5
"""Multiples of what real data reach up to which a distance is good, and fair."""
MOST, HALF = 0.9, 0.5
"""Shares of the way from guessing, or nothing, to real data from which samples are good, and fair."""
MET = 0.05
"""Share of the paths of a bridge that may meet an obstacle."""
BLIND = 0.1
"""Share of that way up to which classes read like guessing."""
SHARES = ("ramachandran_favoured", "crystal_plausible", "crystal_valid", "atom_stability", "bonds_sane")
"""Shares, of which the first that there is says how good samples are; so do distances, where there is none."""
DISTANCES = ("fd_cnn", "sliced_w", "energy", "energy_geodesic", "trigram_distance")
TABLES = ("tv2", "tv1")
"""Distances of tables, the most telling first; beside few unseen rows, all are far, and only chance is seen."""


def word(numbers: Numbers) -> str:
    """Return one word, the worst of what is known; empty where nothing can be set beside real data."""
    best = [*_of_the_best_number(numbers)]
    known = [*best, *(_of_variety(numbers) if best else ()), *_of_likelihood(numbers)]
    order = (GUESSING, POOR, FAIR, USABLE, GOOD)
    return next((one for one in order if one in known), "")


def word_of_bridge(numbers: Numbers) -> str:
    """Return one word for how near paths end, the worst of all populations; empty where that was not measured.

    Paths through obstacles are no bridge, wherever they end.
    """
    met = numbers.get("inside_paths")
    if is_number(met) and met > MET:
        return POOR
    ratios = []
    for name, value in numbers.items():
        floor = numbers.get(f"{name}_floor")
        if name.partition("_")[0] == "w2" and is_number(value) and is_number(floor) and floor > 0:
            ratios.append(value / floor)
    return _by_multiple(max(ratios)) if ratios else ""


def word_of_validity(numbers: Numbers) -> str:
    """Return "Poor" where less than half of steered or tuned samples are valid, whatever their reward; else nothing."""
    valid = numbers.get("validity")
    return POOR if is_number(valid) and valid < HALF else ""


def multiples(numbers: Numbers) -> tuple[float, float, float] | None:
    """Return how many times as far samples are as real data, and between what chance may move that; else None."""
    name = next((name for name in DISTANCES if is_number(numbers.get(name))), "")
    if not name:
        return None
    value, floor, chance = (numbers.get(one) for one in (name, MEASURES[name].floor, "chance_factor"))
    if not (is_number(value) and is_number(floor) and is_number(chance) and floor > 0):
        return None
    return value / floor, value / floor / chance, value / floor * chance


def torn(numbers: Numbers) -> tuple[str, str] | None:
    """Return the best and the worst word for such a multiple that chance allows; None where they are one."""
    known = multiples(numbers)
    best, worst = ("", "") if known is None else map(_by_multiple, known[1:])
    return None if best == worst else (best, worst)


def worse_than_baseline(numbers: Numbers) -> bool:
    """Tell whether unseen data are less likely than by a simple model without a network."""
    nll, without = numbers.get("nll"), numbers.get("nll_baseline")
    return is_number(nll) and is_number(without) and nll > without


def _of_the_best_number(numbers: Numbers) -> Iterator[str]:
    """Judge by the same number that the sentence tells."""
    accuracy, real = numbers.get("accuracy"), numbers.get("judge_accuracy")
    if is_number(accuracy):
        guess = numbers.get("accuracy_guess")
        if is_number(real):
            blind = guess if is_number(guess) else 0.0
            way = (accuracy - blind) / (real - blind) if real > blind else 0.0
            yield GUESSING if is_number(guess) and way <= BLIND else _by_share(way)
        return
    for name in (*SHARES, *DISTANCES):
        value, floor = numbers.get(name), numbers.get(MEASURES[name].floor)
        if is_number(value):
            if is_number(floor) and floor > 0:
                yield _by_share(value / floor) if name in SHARES else _by_distance(value / floor, numbers)
            return
    for name in TABLES:
        value, floor, unrelated = (numbers.get(f"{name}{of}") for of in ("", "_floor", "_independent"))
        if is_number(value):
            if is_number(floor) and floor > 0:
                yield _of_table(value, floor, unrelated if is_number(unrelated) else None)
            return


def _of_table(value: float, floor: float, unrelated: float | None) -> str:
    """Judge between rows drawn again and columns that tell nothing of each other, where these differ."""
    if unrelated is None or unrelated <= NEAR * floor:
        return {GOOD: GOOD, FAIR: USABLE, POOR: POOR}[_by_multiple(value / floor)]
    gone = (value - floor) / (unrelated - floor)
    return GOOD if gone <= 1 - MOST else USABLE if gone <= HALF else POOR


def _of_variety(numbers: Numbers) -> Iterator[str]:
    """Judge how far samples of a class lie from each other, more or less than real ones."""
    ratio = numbers.get("distance_ratio")
    if is_number(ratio):
        yield _by_multiple(max(ratio, 1 / ratio) if ratio > 0 else FAR + 1)


def _of_likelihood(numbers: Numbers) -> Iterator[str]:
    if worse_than_baseline(numbers):
        yield POOR


def _by_distance(ratio: float, numbers: Numbers) -> str:
    """Judge by a multiple; what chance could make good and could make poor is fair."""
    return FAIR if torn(numbers) == (GOOD, POOR) else _by_multiple(ratio)


def _by_multiple(ratio: float) -> str:
    return GOOD if ratio <= NEAR else FAIR if ratio <= FAR else POOR


def _by_share(share: float) -> str:
    return GOOD if share >= MOST else FAIR if share >= HALF else POOR
