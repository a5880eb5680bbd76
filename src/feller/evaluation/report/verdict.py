"""The one sentence that says what the numbers mean."""

from collections.abc import Iterator

from feller.evaluation.comparison import TRAINED
from feller.evaluation.report.metrics import MEASURES, Measure, Numbers, copies, joins, leading, measure, real, tells
from feller.evaluation.report.verdict_thresholds import (
    DISTANCES,
    MET,
    MOST,
    POOR,
    SHARES,
    SKETCH,
    TABLES,
    multiples,
    torn,
    word,
    word_of_bridge,
    word_of_validity,
    worse_than_baseline,
)
from feller.evaluation.report.wording import Number, is_number, number, percent

COUNTED = {
    "ramachandran_favoured": ("residues", "have usual torsions", "real chains"),
    "crystal_plausible": ("crystals", "have distances like real ones and usual charges", "real ones"),
    "crystal_valid": ("crystals", "have atoms 0.5 Å apart or more and usual charges", "real ones"),
    "atom_stability": ("atoms", "have the bonds that their element has", "those of real molecules"),
    "bonds_sane": ("molecules", "are valid", "real ones"),
}
"""What a share counts, what it says, and of whom the floor is."""
HARDLY = 0.9
"""Share of the distance of unrelated columns from which columns of the samples hardly tell of each other."""
SAME = 1.05
"""Up to this multiple of the floor, samples count as close as real data."""

MUCH = 0.1
"""Share of cells of a table, or of one column, from which what was lost of them stands in the verdict."""
STRAY = 1.5
"""Beyond this multiple, or share, of the differences within real classes, samples are no such data."""


def verdict(numbers: Numbers, sketch: str = "", *, described: bool = False) -> str:
    """Say how good the samples are, by the first number there is, and before that what tuning did.

    Args:
        numbers: That were measured.
        sketch: Not empty of a run that had little training, which is said before all else.
        described: Whether a schema was given, so that none is advised.
    """
    if tells(numbers) or copies(numbers):
        told = _of_answers(numbers) if tells(numbers) else _of_copies(numbers)
        return f"{SKETCH}: {told}" if sketch else told
    if joins(numbers):
        judged = SKETCH if sketch else word_of_bridge(numbers)
        return f"{judged}: {_of_bridge(numbers)}" if judged else _of_bridge(numbers)
    reward, before, aim = (numbers.get(name) for name in ("reward", "reward_before", "reward_tilted"))
    if is_number(reward) and is_number(before):
        aimed = f", {number(aim)} aimed at" if is_number(aim) else ""
        told = f"The mean reward is {number(reward)}, before it was {number(before)}{aimed}."
        bounded, other = numbers.get("bounded"), numbers.get("bounded_before")
        if is_number(bounded) and is_number(other):
            told = f"{told} What the wish sets a bound to is {number(bounded)} on average, before {number(other)}."
        told = f"{told}{_of_validity(numbers)}"
        told = told if "solves" in numbers else f"{told} {_of_samples(numbers)}"
        judged = SKETCH if sketch else word_of_validity(numbers)
        return f"{judged}: {told}" if judged else told
    residual, noise = numbers.get("residual"), numbers.get("noise")
    if is_number(residual) and is_number(noise):
        return _of_observation(residual, noise, numbers.get("residual_before"))
    told = _of_table(_of_samples(numbers, described=described), numbers)
    judged = SKETCH if sketch else POOR if _is_empty(numbers) else word(numbers)
    return f"{judged}: {told}{_of_likelihood(numbers)}" if judged else told


def _of_validity(numbers: Numbers) -> str:
    """Say how many steered or tuned samples are valid, and were before; nothing of kinds without a rule."""
    now, before = numbers.get("validity"), numbers.get("validity_before")
    if not is_number(now):
        return ""
    only = "Only " if now < MOST else ""
    was = f", before {percent(before)}" if is_number(before) else ""
    return f" {only}{percent(now)} of the samples are valid{was}."


def _is_empty(numbers: Numbers) -> bool:
    """Tell whether samples of a table are empty where real rows are not."""
    empty, real_ones = numbers.get("empty"), numbers.get("empty_real")
    return is_number(empty) and is_number(real_ones) and empty - real_ones > MUCH


def _of_likelihood(numbers: Numbers) -> str:
    """Say so where a simple model without a network knows unseen data better."""
    if not worse_than_baseline(numbers):
        return ""
    kind = MEASURES["nll"]
    shown = f"{kind.label} {kind.text(numbers['nll'])}, {kind.text(numbers['nll_baseline'])} {kind.unit}"
    return f" A simple model without a network knows unseen data better: {shown}."


def _of_observation(residual: Number, noise: Number, before: Number | str | None) -> str:
    """Say how well samples explain what was observed, beside any samples of the model and the noise."""
    right = f"the noise of {number(noise)} would be right" if noise else "0 would be exact"
    told = f"What the samples would measure differs from what was observed by {number(residual)}"
    if not is_number(before):
        return f"{told}; {right}."
    return f"{told}, where any samples of the model differ by {number(before)}; {right}."


def _of_table(told: str, numbers: Numbers) -> str:
    """Add to what is told of a table what comparisons of its codes cannot see; nothing of other data.

    Rows that are empty where real ones are not are no such rows, however near what was read of the real ones.
    """
    hidden, empty, real_ones = (numbers.get(name) for name in ("left_out", "empty", "empty_real"))
    parts = [f"Left out of the samples and of these numbers, for noise hid what they hold: {hidden}."] if hidden else []
    if is_number(empty) and is_number(real_ones) and _is_empty(numbers):
        what = f"{percent(empty)} of the cells of the samples are empty, of the real table {percent(real_ones)}"
        return " ".join([f"The samples are not like the data: {what}; other numbers do not see that.", *parts])
    worst, most = numbers.get("tv2_worst"), numbers.get("tv2_max")
    if isinstance(worst, str) and is_number(most):
        told = f"{told} The worst pair of columns is {worst}, with {percent(most)} of the rows off."
    if off := numbers.get("numbers_off"):
        told = f"{told} But means or quantiles of {off} are far off, which bins do not see: see the table of them."
    return " ".join([told, *parts, *_of_clipped(numbers)])


def _of_clipped(numbers: Numbers) -> Iterator[str]:
    """Say so where many cells of the table, or of one of its columns, were clipped: numbers do not see these."""
    clipped, most, column = (numbers.get(name) for name in ("clipped", "clipped_max", "clipped_worst"))
    if isinstance(column, str) and is_number(most) and most > MUCH:
        more = f", and {percent(clipped)} of all," if is_number(clipped) and clipped > MUCH else ""
        which = f"{percent(most)} of the real cells of {column}{more}"
        yield f"But {which} lie beyond what the schema knows and were clipped."
    elif is_number(clipped) and clipped > MUCH:
        yield f"But {percent(clipped)} of the real cells lie beyond what the schema knows and were clipped."


def _of_answers(numbers: Numbers) -> str:
    """Say how right a network is that tells of data, by the first number there is."""
    name = leading(numbers)[0]
    kind, value = measure(name, numbers), numbers[name]
    if not is_number(value):
        return "How right the answers are could not be measured: the numbers are not finite."
    constant = kind.text(numbers.get(kind.floor))
    if name == "accuracy":
        return f"{kind.text(value)} of the examples are told right; always the commonest class, {constant} would be."
    return f"The {kind.label} is {kind.text(value)}; telling {kind.real} would make it {constant}."


def _of_copies(numbers: Numbers) -> str:
    """Say how far copies are off, beside pictures that are shrunk, and how many codes are used."""
    if not is_number(numbers["reconstruction_mse"]):
        return "How good the copies are could not be measured: the numbers are not finite."
    off, shrunk = _error("", numbers), _error("_shrunk", numbers)
    use = numbers.get("codebook_use")
    used = f" They use {percent(use)} of the codes." if is_number(use) else ""
    return f"Copies are off by a mean square of {off}; pictures shrunk to the grid of their codes, by {shrunk}.{used}"


def _error(whose: str, numbers: Numbers) -> str:
    """Write a mean square, and its decibels where they are finite."""
    error, ratio = (numbers.get(f"{name}{whose}") for name in ("reconstruction_mse", "psnr"))
    decibels = f" ({number(ratio)} dB)" if is_number(ratio) else ""
    return f"{MEASURES['reconstruction_mse'].text(error)}{decibels}"


def _of_bridge(numbers: Numbers) -> str:
    """Say whether the paths arrive, and whether they keep out of obstacles."""
    met = numbers.get("inside_paths")
    blocked = is_number(met) and met > MET
    told = f"{_arrived(numbers, '.' if blocked else _inside(numbers))}{_of_rounds(numbers)}"
    return f"{percent(met)} of the paths go through an obstacle. {told}" if blocked else told


def _of_rounds(numbers: Numbers) -> str:
    """Say so where the last round was worse than the one that is kept."""
    last, number_kept = numbers.get("last_w2"), numbers.get("kept_round")
    if not is_number(last) or not is_number(number_kept):
        return ""
    return f" This is round {number(number_kept)}; the last round was worse, at distance {number(last)}."


def _inside(numbers: Numbers) -> str:
    """End a sentence with how many paths meet an obstacle, and for how long; without obstacles with a full stop."""
    met, inside = numbers.get("inside_paths"), numbers.get("inside_time")
    if met == 0:
        return "; no path meets an obstacle."
    time = f"; {percent(inside)} of the time, paths are inside obstacles." if is_number(inside) else "."
    return f"; {percent(met)} of the paths meet an obstacle." if is_number(met) else time


def _arrived(numbers: Numbers, way: str) -> str:
    """Say how near the paths end, and then what else there is to say of their way."""
    reached, floor = (numbers.get(name) for name in ("w2", "w2_floor"))
    if not is_number(reached):
        return f"Whether the paths arrive was not measured{way}"
    if not is_number(floor) or floor <= 0:
        return f"The paths end at distance {number(reached)} from real members, whose own is not known{way}"
    shown = f"distance {number(reached)}, {MEASURES['w2'].real} {number(floor)}"
    shown += "".join(_between(numbers))
    if reached <= SAME * floor:
        return f"The paths end as close to real members as these are to each other: {shown}{way}"
    times = number(float(reached) / floor)
    return f"The paths end {times} times as far from real members as these are from each other: {shown}{way}"


def _between(numbers: Numbers) -> Iterator[str]:
    """Say how far paths are from each population between the first and the last."""
    for name, value in numbers.items():
        when, floor = name.removeprefix("w2_"), numbers.get(f"{name}_floor")
        if name.startswith("w2_") and is_number(value) and is_number(floor):
            yield f"; at time {when}, {number(value)}, {MEASURES['w2'].real} {number(floor)}"


def _of_samples(numbers: Numbers, *, described: bool = False) -> str:
    """Say how good the samples are, by the first number there is."""
    accuracy, judged = numbers.get("accuracy"), numbers.get("judge_accuracy")
    share = MEASURES["accuracy"].text
    if is_number(accuracy):
        of_real = f"; of real data, {share(judged)} are read right" if is_number(judged) else ""
        before = numbers.get("accuracy_before")
        of_base = f"; before tuning, {share(before)} were" if is_number(before) else ""
        asked = f"{share(accuracy)} of the samples are read as the class that was asked for{of_base}{of_real}."
        return f"{asked}{_of_variety(numbers)}"
    for name in SHARES:
        what, are, whose = COUNTED[name]
        value, floor = numbers.get(name), numbers.get(MEASURES[name].floor)
        if is_number(value):
            seen = real(MEASURES[name], numbers).removeprefix(MEASURES[name].real)
            of_real = f"; of {whose}{seen}, {share(floor)}" if is_number(floor) else ""
            return f"{share(value)} of the {what} {are}{of_real}.{_of_likeness(numbers)}"
    for name in DISTANCES:
        value, kind = numbers.get(name), MEASURES[name]
        if is_number(value):
            return f"{_distance(kind, value, numbers)}{_of_chance(numbers)}"
    for name in TABLES:
        value = numbers.get(name)
        if is_number(value):
            return _of_rows(name, value, numbers, described=described)
    for name in ("nll", "bits_per_token"):
        value, kind = numbers.get(name), MEASURES[name]
        if is_number(value):
            return f"Held-out data have a {kind.label} of {kind.text(value)} {kind.unit}."
    values = [numbers[name] for name in leading(numbers)]
    if any(isinstance(value, float) for value in values) and not any(map(is_number, values)):
        return "The samples could not be measured: the numbers are not finite."
    return "How good the samples are was not measured."


def _of_likeness(numbers: Numbers) -> str:
    """Say how many samples are like a real crystal; nothing of other data."""
    like, floor = numbers.get("like_real"), numbers.get("like_real_floor")
    if not is_number(like):
        return ""
    return f" {percent(like)} are like a real crystal{f'; of real ones, {percent(floor)}' if is_number(floor) else ''}."


def _of_chance(numbers: Numbers) -> str:
    """Say so where examples are too few to tell which word is right."""
    words, known = torn(numbers), multiples(numbers)
    if words is None or known is None:
        return ""
    between = f"{number(known[1])} to {number(known[2])} times"
    best, worst = (one.lower() for one in words)
    return f" With so few examples chance makes that {between}, so that {best} is not told from {worst}."


def _of_rows(name: str, value: Number, numbers: Numbers, *, described: bool) -> str:
    """Say how far a table is off, between chance alone and a table whose columns tell nothing of each other."""
    kind, unrelated, floor = MEASURES[name], numbers.get(f"{name}_independent"), numbers.get(f"{name}_floor")
    parts = _distance(kind, value, numbers).removesuffix("."), *_beside_unseen(name, numbers)
    if not (is_number(unrelated) and is_number(floor)) or unrelated <= SAME * floor:
        return f"{''.join(parts)}."  # a single column, or columns that are unrelated in the real table as well
    where = f", were columns unrelated {kind.text(unrelated)}"
    if value <= SAME * floor or value < HARDLY * unrelated:
        return f"{parts[0]}{where}{''.join(parts[1:])}."
    shown = f"{kind.label} {kind.text(value)}{where}; {kind.real} {kind.text(floor)}{''.join(parts[1:])}"
    helps = _what_helps(numbers, described=described)
    return f"Columns of the samples hardly tell of each other: {shown}. {helps}".strip()


def _beside_unseen(name: str, numbers: Numbers) -> Iterator[str]:
    """Say how far samples are off beside unseen rows, where that is more than the training table is."""
    value, kind = numbers.get(f"{name}_test"), MEASURES[f"{name}_test"]
    floor = numbers.get(kind.floor)
    if is_number(value) and is_number(floor) and value > SAME * floor:
        yield f"; beside unseen rows {kind.text(value)}, {kind.real} {kind.text(floor)}"


def _what_helps(numbers: Numbers, *, described: bool) -> str:
    """Say what makes a table better, with privacy or without."""
    if is_number(numbers.get("epsilon")):
        if described:
            return "More rows, fewer values and edges in the schema, or a larger --epsilon help."
        return "A schema that describes the columns (--schema), more rows, or a larger --epsilon help."
    steps = numbers.get("steps")
    return "Longer training (--steps or --minutes) helps." if is_number(steps) and steps else ""


def _of_variety(numbers: Numbers) -> str:
    """Say so where samples of a class differ far more, or less, than real ones: a judge may take noise for a class."""
    ratio = numbers.get("distance_ratio")
    if not is_number(ratio) or 1 / STRAY <= ratio <= STRAY:
        return ""
    return f" But samples of a class differ from each other {number(ratio)} times as much as real data."


def _distance(kind: Measure, value: Number, numbers: Numbers) -> str:
    """Compare the distance from samples to real data with the one among real data."""
    floor = numbers.get(kind.floor)
    if not is_number(floor):
        of = TRAINED if numbers.get("compared_with") == TRAINED else "real data"
        return (
            f"Between samples and {of} the {kind.label} is {kind.text(value)}; how far real data are from each"
            " other is not known."
        )
    shown = f"{kind.label} {kind.text(value)}, {kind.real} {kind.text(floor)}"
    if floor <= 0 or value <= 0:
        return f"The distance of the samples to real data: {shown}."
    if value <= SAME * floor:
        return f"The samples are as close to real data as real data are to each other: {shown}."
    times = number(float(value) / floor)
    return f"The samples are {times} times as far from real data as real data are from each other: {shown}."
