"""Verdict of a report: a grade and the metrics that decide the grade. The rules are in docs/reference/commands.md."""

from collections.abc import Iterator
from dataclasses import dataclass

from feller.evaluation.metrics import USER_METRICS, Numbers, main_metrics, metric, reference_value
from feller.evaluation.number_format import format_number, format_percent, is_number
from feller.evaluation.report.grades import (
    CHANCE,
    COPIES,
    FAIR,
    FAIR_FRACTION,
    FAIR_RATIO,
    GOOD,
    GOOD_FRACTION,
    GOOD_RATIO,
    MAX_LOST_CELLS,
    POOR,
    UNDERTRAINED,
    USABLE,
    WORST_FIRST,
)
from feller.evaluation.report.table_verdict import row_cautions, row_grades, row_metrics

MAX_OBSTRUCTED = 0.05
"""Maximum fraction of bridge paths that cross obstacles if the grade is to be better than poor."""
CHANCE_FRACTION = 0.1
"""Position on the scale from guessing (0) to the reference (1) up to which class accuracy counts as chance level."""
FEW_SAMPLES = 100
"""Number of samples below which metrics have a large sampling error."""
MIN_JUDGE_ACCURACY = 0.8
"""Accuracy of the judge on real images below which the metrics computed with it are unreliable."""
REACHED_FRACTION = 0.95
"""Minimum fraction of the way to a target that counts as reached."""
BASELINES = (
    *(
        "before",
        "unconditional samples",
        "model without a network",
        "linear-Gaussian model",
        "plain Brownian bridges",
        "none retrieved",
    ),
    *("linear interpolation", "Gaussian process", "joint Gaussian", "seasonal naive", "autoregression"),
    *("most frequent class", "most frequent text", "always the mean", "always the mean row", "always the same text"),
)
"""Labels of references that are to be surpassed; all others are to be reached."""
SHARES = ("ramachandran_favoured", "crystal_plausible", "crystal_valid", "atom_stability", "bonds_sane")
DISTANCES = ("fd_cnn", "sliced_w", "energy", "energy_geodesic", "trigram_distance")
TABLES = ("tv2_half", "tv1_half", "tv2", "tv1")
"""Keys of distance metrics of tables. The first measured metric in SHARES, DISTANCES and TABLES, in this order, decides
the grade."""
SHORT_LABELS = {"tv1": "TV distance of columns", "tv2": "TV distance of column pairs"}
"""Labels of the distances of tables in a verdict, by the start of their keys."""
PROTOCOLS = (
    ("accuracy_constant", ("accuracy", "auc")),
    ("mae_constant", ("mae", "r2")),
    ("perplexity", ("picture_perplexity", "picture_perplexity_2", "answers_exact", "answers_f1")),
    ("reconstruction_mse", ("reconstruction_mse", "psnr", "codebook_use")),
    ("log_mel_error", ("spectral_error", "log_mel_error")),
    ("synthesis", ("word_error_rate", "speaker_similarity", "phone_mae")),
    ("phone_mae", ("phone_mae", "silence_mae")),
    ("objective", ("w2", "inside_paths", "objective")),
    ("reward", ("bounded", "reward", "validity")),
    ("residual", ("residual", "noise")),
)
"""Entries (metric, metrics of the verdict) for evaluations that do not compare samples with data. The presence of the
first metric identifies the evaluation."""


@dataclass(frozen=True)
class Verdict:
    """Grade of a model, with the metrics that decide it and with cautions."""

    grade: str = ""
    """Grade of the model; empty if there is no reference to compare with."""
    metrics: tuple[str, ...] = ()
    """Keys of the metrics that decide the grade."""
    cautions: tuple[str, ...] = ()
    """Limitations that the metrics do not show."""
    doubts: tuple[str, ...] = ()
    """Reasons to distrust the grade, in two or three words each, shown next to the grade: weak judge, few samples."""

    def text(self, numbers: Numbers) -> str:
        """Return a text with the grade, reasons to distrust it, and the deciding metrics with their references.

        Of the distances of a table, only the first is listed.
        """
        measured = [name for name in self.metrics if is_number(numbers.get(name))]
        doubts = f" ({', '.join(self.doubts)})" if self.doubts else ""
        if not measured:
            return f"{self.grade}{doubts}" if self.grade else "Not measured"
        listed = ", ".join(
            _table_distance(name, numbers) if name in TABLES else _with_reference(name, numbers)
            for name in measured
            if name in TABLES or name[:3] not in SHORT_LABELS
        )
        return f"{self.grade}{doubts}: {listed}" if self.grade else f"{listed[:1].upper()}{listed[1:]}"


def _table_distance(name: str, numbers: Numbers) -> str:
    """Return the distance `name` of a table with the distances of real rows and of independent columns."""
    definition, independent = metric(name, numbers), numbers.get(f"{name}_independent")
    reference_pair = reference_value(name, numbers)
    values = [] if reference_pair is None or reference_pair[1] is None else [reference_pair]
    values += [("independent columns", independent)] if is_number(independent) and independent > 0 else []
    references = ", ".join(f"{label} {definition.text(value)}" for label, value in values)
    text = f"{SHORT_LABELS[name[:3]]} {definition.text(numbers[name])}"
    return f"{text} ({references})" if references else text


def _with_reference(name: str, numbers: Numbers) -> str:
    definition, reference_pair = metric(name, numbers), reference_value(name, numbers)
    unit = f" {definition.unit}" if definition.unit else ""
    text = f"{definition.label} {definition.text(numbers[name])}{unit}"
    return (
        text
        if reference_pair is None or reference_pair[1] is None
        else f"{text} ({reference_pair[0]} {definition.text(reference_pair[1])})"
    )


def judge_numbers(numbers: Numbers, *, is_undertrained: bool = False) -> Verdict:
    """Return the verdict of a report: the worst grade given by any rule.

    An undertrained run is UNDERTRAINED whatever the rules give, except for copies of training rows.
    """
    protocol, deciding = next(((key, names) for key, names in PROTOCOLS if key in numbers), ("", ()))
    grades: list[str] = []
    if not protocol:
        grades, deciding = [*_samples(numbers)], _deciding(numbers)
    elif protocol == "objective":
        grades, deciding = [*_bridge(numbers)], (*_farthest_population(numbers), *deciding)
    elif protocol == "reward":
        grades, deciding = [*_validity(numbers)], (*deciding, *(() if "solves" in numbers else _deciding(numbers)))
    if not deciding:  # a regressor of several targets
        deciding = tuple(name for name in main_metrics(numbers) if name.startswith("mae_"))[:3]
    grade = next((candidate for candidate in WORST_FIRST if candidate in grades), "")
    grade = UNDERTRAINED if is_undertrained and grade != COPIES else grade
    doubts = [*_doubts(numbers)]
    cautions = (*(caution for _, caution in doubts), *_cautions(numbers))
    return Verdict(grade, tuple(deciding), cautions, tuple(doubt for doubt, _ in doubts))


def _deciding(numbers: Numbers) -> tuple[str, ...]:
    """Return the metrics that decide the grade of samples.

    These are the first graded metric that was measured, and metrics that can lower its grade.
    """
    likelihoods = [name for name in ("nll", "bits_per_token") if is_number(numbers.get(name))]
    first = [name for name in (_first_graded(numbers), *likelihoods) if name][:1]
    companions = {"accuracy": ("fd_cnn",), "crystal_plausible": ("like_real",), "tv2": ("tv2_independent", "tv2_test")}
    companions |= {f"{name}_half": (f"{name}_half_independent", f"{name}_test") for name in ("tv2", "tv1")}
    companion_names = companions.get("".join(first), ())
    ratio = numbers.get("distance_ratio")
    ratio_names = ("distance_ratio",) if is_number(ratio) and not 1 / FAIR_RATIO <= ratio <= FAIR_RATIO else ()
    nll_names = ("nll",) if worse_than_baseline(numbers) and "nll" not in first else ()
    empty_names = ("empty",) if _is_empty(numbers) else ()
    return (*row_metrics(numbers), *empty_names, *first, *companion_names, *ratio_names, *nll_names)


def _samples(numbers: Numbers) -> Iterator[str]:
    best = next(_grade_first_metric(numbers), None)
    if best is not None:
        yield best
        ratio = numbers.get("distance_ratio")
        if is_number(ratio):
            yield _by_multiple(max(ratio, 1 / ratio) if ratio > 0 else FAIR_RATIO + 1)
    yield from row_grades(numbers)
    if worse_than_baseline(numbers) or _is_empty(numbers):
        yield POOR


def _grade_first_metric(numbers: Numbers) -> Iterator[str]:
    accuracy, real, guess = (numbers.get(name) for name in ("accuracy", "judge_accuracy", "accuracy_guess"))
    if is_number(accuracy):
        if is_number(real):
            baseline = guess if is_number(guess) else 0.0
            fraction = (accuracy - baseline) / (real - baseline) if real > baseline else 0.0
            yield CHANCE if is_number(guess) and fraction <= CHANCE_FRACTION else _by_share(fraction)
        return
    first = _first_graded(numbers)
    if first and (grade := _grade(first, numbers)):
        yield FAIR if first not in (*SHARES, *TABLES) and chance_grades(numbers) == (GOOD, POOR) else grade


def _first_graded(numbers: Numbers) -> str:
    """Return the first measured metric in the order of precedence for grades; empty if none was measured."""
    names = ("accuracy", *SHARES, *DISTANCES, *TABLES, *USER_METRICS)
    return next((name for name in names if is_number(numbers.get(name))), "")


def _grade(name: str, numbers: Numbers) -> str:
    """Return the grade of the metric `name`, from its ratio to its reference; empty without a reference."""
    value, floor = numbers.get(name), numbers.get(metric(name, numbers).reference)
    if not (is_number(value) and is_number(floor) and floor > 0):
        return ""
    if name in TABLES:
        return _by_table(value, floor, numbers.get(f"{name}_independent"))
    return _by_share(value / floor) if name in SHARES else _by_multiple(value / floor)


def metric_verdict(name: str, numbers: Numbers) -> str:
    """Return the verdict on one metric as text; empty if no rule applies.

    Depending on the metric, it is the completed fraction of the way to a target, a grade (if the grade of the report
    depends on the metric), or a comparison with the reference, such as a baseline.
    """
    value, one, reference_pair = numbers.get(name), metric(name, numbers), reference_value(name, numbers)
    progress = target_progress(name, numbers)
    if not is_number(value):
        return ""
    if level := numbers.get(level_key(name)):
        return str(level)
    if progress is not None:
        way = f"{format_percent(round(progress, 3))} of the way"
        return "target reached" if progress >= REACHED_FRACTION else way if progress > 0 else "target not nearer"
    if name == "distance_ratio":
        return _by_multiple(max(value, 1 / value)) if value > 0 else POOR
    floor = numbers.get(f"{name}_floor")
    if "objective" in numbers and name.partition("_")[0] == "w2" and is_number(floor) and floor > 0:
        return _by_multiple(value / floor)
    if name == _first_graded(numbers):
        return next(_grade_first_metric(numbers), "")
    label, reference = reference_pair or ("", None)
    if reference is None:
        return ""
    if one.better == "match" and min(value, reference) > 0:
        return "matches" if max(value / reference, reference / value) <= GOOD_RATIO else "differs"
    if one.better not in ("higher", "lower") or label not in BASELINES:
        return ""
    if value == reference:
        return f"as {label}"
    return f"{'better' if (value > reference) == (one.better == 'higher') else 'worse'} than {label}"


def level_key(name: str) -> str:
    """Return the key of the level of a risk, such as `linkability_level` for `linkability_risk`."""
    return f"{name.removesuffix('_risk')}_level" if name.endswith("_risk") else ""


def target_progress(name: str, numbers: Numbers) -> float | None:
    """Return how far a metric has moved towards its target, as a fraction of the way; None without a target.

    For the reward of fine-tuning, the way leads from the mean reward before fine-tuning to that of the reward-tilted
    distribution. For a bounded quantity, it is the fraction by which the mean distance to the bound has decreased.
    """
    if name == "bounded" and is_number(way := numbers.get("bounded_progress")):
        return float(way)
    before, target = numbers.get("reward_before"), numbers.get("reward_tilted")
    if name != "reward" or not (is_number(before) and is_number(target) and target > before):
        return None
    value = numbers.get("reward")
    return (value - before) / (target - before) if is_number(value) else None


def _by_table(value: float, floor: float, independent: object) -> str:
    """Grade a table distance by its position between those of resampled real rows and of independent columns.

    If these two are nearly equal, the grade depends on the ratio to the former.
    """
    if not is_number(independent) or independent <= GOOD_RATIO * floor:
        return {GOOD: GOOD, FAIR: USABLE, POOR: POOR}[_by_multiple(value / floor)]
    position = (value - floor) / (independent - floor)
    return GOOD if position <= 1 - GOOD_FRACTION else USABLE if position <= FAIR_FRACTION else POOR


def _bridge(numbers: Numbers) -> Iterator[str]:
    obstructed = numbers.get("inside_paths")
    if is_number(obstructed) and obstructed > MAX_OBSTRUCTED:
        yield POOR
    for name, value in numbers.items():
        floor = numbers.get(f"{name}_floor")
        if name.partition("_")[0] == "w2" and is_number(value) and is_number(floor) and floor > 0:
            yield _by_multiple(value / floor)


def _farthest_population(numbers: Numbers) -> list[str]:
    """Return the metric of the intermediate population with the largest ratio to its reference."""
    ratios = {
        name: value / floor
        for name, value in numbers.items()
        if name.startswith("w2_")
        and is_number(value)
        and is_number(floor := numbers.get(f"{name}_floor"))
        and floor > 0
    }
    return [max(ratios, key=lambda name: ratios[name])] if ratios else []


def _validity(numbers: Numbers) -> Iterator[str]:
    """Grade steered or fine-tuned samples as poor if less than half are valid."""
    valid = numbers.get("validity")
    if is_number(valid) and valid < FAIR_FRACTION:
        yield POOR


def chance_grades(numbers: Numbers) -> tuple[str, str] | None:
    """Return the best and the worst grade that the report's distance metric allows within its sampling error.

    Return None if both are equal, or if the sampling error is unknown.
    """
    name = next((name for name in DISTANCES if is_number(numbers.get(name))), "")
    value, floor = numbers.get(name), numbers.get(metric(name, numbers).reference)
    chance_factor = numbers.get("chance_factor")
    if not (is_number(value) and is_number(floor) and is_number(chance_factor) and floor > 0):
        return None
    best, worst = _by_multiple(value / floor / chance_factor), _by_multiple(value / floor * chance_factor)
    return None if best == worst else (best, worst)


def worse_than_baseline(numbers: Numbers) -> bool:
    """Return True if the model's held-out likelihood is below that of a baseline without a network."""
    nll = numbers.get("nll")
    baselines = [numbers.get(name) for name in ("nll_baseline", "nll_linear", "nll_boosted")]
    return is_number(nll) and any(is_number(baseline) and nll > baseline for baseline in baselines)


def _is_empty(numbers: Numbers) -> bool:
    empty, real = numbers.get("empty"), numbers.get("empty_real")
    return is_number(empty) and is_number(real) and empty - real > MAX_LOST_CELLS


def _doubts(numbers: Numbers) -> Iterator[tuple[str, str]]:
    """Yield reasons to distrust the metrics that decide the grade, each in brief and as a caution."""
    protocol = next((key for key, _ in PROTOCOLS if key in numbers), "")
    of_samples = not protocol or (protocol == "reward" and "solves" not in numbers)
    accuracy, n = numbers.get("judge_accuracy"), numbers.get("n")
    if is_number(accuracy) and accuracy < MIN_JUDGE_ACCURACY:
        yield (
            f"weak judge, right for {format_percent(accuracy)} of real images",
            f"weak judge: it classifies only {format_percent(accuracy)} of real images correctly, so its metrics are"
            " unreliable",
        )
    if of_samples and is_number(n) and n < FEW_SAMPLES:
        yield (
            f"few samples, {format_number(n)}",
            f"few samples ({format_number(n)}): the metrics have a large sampling error",
        )
    grades = None if protocol else chance_grades(numbers)
    if grades and not any(is_number(numbers.get(name)) for name in ("accuracy", *SHARES)):
        factor = format_number(float(numbers["chance_factor"] or 1))
        yield (
            f"few examples, {grades[0]} to {grades[1]}",
            f"few examples: by chance alone (a factor of {factor}) the grade may be anything from {grades[0]} to"
            f" {grades[1]}",
        )


def _cautions(numbers: Numbers) -> Iterator[str]:
    yield from row_cautions(numbers)
    floor, independent = (numbers.get(f"tv2_half{suffix}") for suffix in ("_floor", "_independent"))
    if is_number(floor) and is_number(independent) and independent <= GOOD_RATIO * floor:
        yield "few rows or weakly dependent columns: independent columns are nearly as close to real rows"
    if hidden := numbers.get("left_out"):
        yield f"columns left out, since the privacy noise exceeds their content: {hidden}"
    if far_off := numbers.get("numbers_off"):
        yield f"mean or quantiles are far off, which the binned metrics do not show: {far_off}"
    clipped, worst_clipped, column = (numbers.get(name) for name in ("clipped", "clipped_max", "clipped_worst"))
    if is_number(worst_clipped) and worst_clipped > MAX_LOST_CELLS:
        yield f"{format_percent(worst_clipped)} of the real cells of {column} are outside the schema and were clipped"
    elif is_number(clipped) and clipped > MAX_LOST_CELLS:
        yield f"{format_percent(clipped)} of the real cells are outside the schema and were clipped"
    if is_number(kept_round := numbers.get("kept_round")) and is_number(last := numbers.get("last_w2")):
        yield f"round {format_number(kept_round)} is used; the last round was worse (distance {format_number(last)})"


def _by_multiple(ratio: float) -> str:
    return GOOD if ratio <= GOOD_RATIO else FAIR if ratio <= FAIR_RATIO else POOR


def _by_share(fraction: float) -> str:
    return GOOD if fraction >= GOOD_FRACTION else FAIR if fraction >= FAIR_FRACTION else POOR
