"""Quality of a synthetic table: marginals, utility and copies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables.modality import Table
from feller.evaluation.intervals import share_difference
from feller.evaluation.tables import marginal_distance
from feller.evaluation.tables import utility as usefulness
from feller.evaluation.tables.copy_metrics import (
    bootstrap_rows,
    copied_fraction,
    dcr_fraction,
    duplicated_fraction,
    independent_columns_nll,
    membership_auc,
    shuffle_columns,
)
from feller.evaluation.tables.detection import detection_metrics
from feller.evaluation.tables.marginal_distance import Rules, column_sets, k_marginal_score, total_variations
from feller.evaluation.tables.target_leakage import strongest_column

MIN_HELD_OUT = 50
"""Minimum number of held-out rows for metrics that compare with held-out rows."""
INDEPENDENT_ROWS = 5_000
"""Maximum number of rows with independent columns on which models are trained."""
SIZES = (1, 2, 3)
"""Numbers of columns in the compared marginals."""
COMPARISONS = {"": (0, 1), "_floor": (2, 1), "_independent": (3, 1), "_test": (0, 4), "_test_floor": (1, 4)}
"""Mapping from a metric's suffix to the indices of its two compared tables in the list: synthetic, training, bootstrap,
shuffled, held-out."""
BETWEEN = " × "
Numbers = dict[str, float | str | None]


@dataclass(frozen=True, eq=False)
class ComparedTables:
    """Category indices of a synthetic table, its training table and held-out rows, which share a schema."""

    synthetic: Int64[Tensor, "n k"]
    train: Int64[Tensor, "m k"]
    held_out: Int64[Tensor, "h k"]
    """Held-out rows; may be empty."""
    is_ordered: tuple[bool, ...]
    """True for columns whose categories are ordered, as bins of a number are."""

    @property
    def has_enough_held_out(self) -> bool:
        """True if there are at least MIN_HELD_OUT held-out rows."""
        return len(self.held_out) >= MIN_HELD_OUT


def table_quality(
    synthetic: Int64[Tensor, "n _"],
    train: Int64[Tensor, "m _"],
    held_out: Int64[Tensor, "h _"],
    counts: Sequence[int],
    *,
    ordered: Sequence[bool] | None = None,
    target: int | None = None,
    levels: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    rules: marginal_distance.Rules | None = None,
    rng: Rng = Rng(0),  # noqa: B008
    has_train: bool = True,
) -> Numbers:
    """Compute metrics of a synthetic table against its training table and held-out rows.

    Category indices out of range in the synthetic table count as an extra category that does not occur in real rows.

    Args:
        synthetic: Category indices of synthetic rows, column j in 0 .. counts[j] - 1.
        train: Category indices of training rows.
        held_out: Category indices of held-out rows; may be empty.
        counts: Number of categories of each column.
        ordered: True for columns with ordered categories, such as bins of a number; default: none.
        target: Index of the column to predict for the utility metrics; None to skip these metrics.
        levels: Numeric value of each of the target's categories, see `utility.task`.
        names: Column names, used to report the worst columns.
        rules: Function from the category indices of rows to True for each row that satisfies the rules between columns;
            None if there are no rules.
        rng: Random streams.
        has_train: False if `train` holds real rows other than the training table. Utility metrics then train on one
            half of these rows and test on the other, and copying metrics are skipped.

    Returns:
        Metrics by key; undefined metrics are None.

    Raises:
        InputError: If there are no synthetic or no training rows.
        UsageError: If the numbers of columns differ, or if `counts`, `ordered` or `target` does not match the tables.
    """
    columns = tuple(names or (f"column {j + 1}" for j in range(len(counts))))
    is_ordered = tuple(ordered or [False] * len(counts))
    for table_name, table in (("synthetic table", synthetic), ("training table", train), ("held-out table", held_out)):
        _check(table_name, table, counts, is_ordered, columns)
    for table_name, table in (("training table", train), ("held-out table", held_out)):
        if not marginal_distance.is_valid_code(table, counts).all():
            raise UsageError(
                f"the {table_name} contains codes outside the ranges of its columns",
                remedy="Encode the table with the same schema",
            )
    if not len(synthetic) or not len(train):
        raise InputError("at least one synthetic row and one training row", f"{len(synthetic)} and {len(train)}")
    task = None if target is None else usefulness.task(counts, is_ordered, target, levels)
    metrics: Numbers = {"valid": marginal_distance.valid_fraction(synthetic, counts, rules)}
    is_valid = marginal_distance.is_valid_code(synthetic, counts)
    if not is_valid.all():
        synthetic = torch.where(is_valid, synthetic, torch.tensor(counts, device=synthetic.device))
        task = task and task.with_extra_code()
    tables = ComparedTables(synthetic, train, held_out, is_ordered)
    metrics |= _marginals(tables, columns, rng.fold_in("marginals"))
    metrics |= _shape(tables, rng.fold_in("shape"))
    num_codes = tuple(count + int(not is_valid.all()) for count in counts)
    metrics |= detection_metrics(synthetic, train, num_codes, is_ordered, rng.fold_in("detection"))
    if task is not None:
        compared = tables if has_train else _halved(tables, rng.fold_in("tested"))
        metrics |= {"told_column": columns[task.features.target], **_utility(compared, task, rng.fold_in("utility"))}
        leakage = strongest_column(task, train, rng.fold_in("leakage"))
        metrics |= {
            "leak_column": None if leakage is None else columns[leakage.column],
            "leak_score": None if leakage is None else leakage.score,
        }
    return metrics | _privacy(tables, rng.fold_in("privacy")) if has_train else metrics


def _halved(tables: ComparedTables, rng: Rng) -> ComparedTables:
    """Return tables in which one half of the real rows is for training and the other half held out.

    Small tables are unchanged.
    """
    if len(tables.train) < 2 * MIN_HELD_OUT:
        return tables
    rows = tables.train[torch.randperm(len(tables.train), generator=rng.stream("rows").shared_generator())]
    return replace(tables, train=rows[: len(rows) // 2], held_out=rows[len(rows) // 2 :])


def _check(label: str, table: Tensor, counts: Sequence[int], ordered: Sequence[bool], names: Sequence[str]) -> None:
    if not len(counts) == len(ordered) == len(names) == table.shape[1]:
        raise UsageError(
            f"counts, ordered and names with one entry for each of the {table.shape[1]} columns of the {label}",
            f"{len(counts)}, {len(ordered)} and {len(names)} entries",
        )


def _marginals(tables: ComparedTables, names: Sequence[str], rng: Rng) -> Numbers:
    """Return the mean total variation of 1-, 2- and 3-way marginals between synthetic and training rows.

    References are bootstrap rows, rows with shuffled columns, and held-out rows.
    """
    train, metrics = tables.train, Numbers()
    bootstrap = bootstrap_rows(train, len(tables.synthetic), rng)
    all_tables = [tables.synthetic, train, bootstrap, shuffle_columns(train, rng)] + [
        tables.held_out
    ] * tables.has_enough_held_out
    pairs = {suffix: pair for suffix, pair in COMPARISONS.items() if max(pair) < len(all_tables)}
    for size in SIZES:
        sets = column_sets(train.shape[1], size, rng)
        metrics |= {f"tv{size}{suffix}": None for suffix in (*COMPARISONS, "_max")}
        if sets:
            tv = total_variations(all_tables, list(pairs.values()), sets)
            metrics |= {f"tv{size}{suffix}": tvs.mean().item() for suffix, tvs in zip(pairs, tv, strict=True)}
            metrics[f"tv{size}_max"] = tv[0].max().item()
            metrics[f"tv{size}_worst"] = BETWEEN.join(names[j] for j in sets[tv[0].argmax()])
    metrics |= _by_halves(tables, rng.fold_in("halves"))
    score = rng.fold_in("score")
    metrics["k_marginal"] = k_marginal_score(tables.synthetic, train, score)
    metrics["k_marginal_floor"] = k_marginal_score(bootstrap, train, score)
    return metrics


def _by_halves(tables: ComparedTables, rng: Rng) -> Numbers:
    """Return total variations from each half of the real rows, with the other half as the reference.

    All sets have equal size, so a perfect table equals its reference, however few rows there are.
    """
    real, made = (
        table[torch.randperm(len(table), generator=rng.stream(name).shared_generator())]
        for name, table in (("real", tables.train), ("synthetic", tables.synthetic))
    )
    first_half, second_half = real[: len(real) // 2], real[len(real) // 2 :]
    size = min(len(first_half), len(made))
    metrics: Numbers = {}
    for k in SIZES[:2]:
        sets = column_sets(real.shape[1], k, rng)
        if len(real) < MIN_HELD_OUT or not sets:
            continue
        halves = [
            total_variations(
                [made[:size], reference, train[:size], shuffle_columns(train, rng)[:size]],
                [(0, 1), (2, 1), (3, 1)],
                sets,
            )
            for train, reference in ((first_half, second_half), (second_half, first_half))
        ]
        for suffix, *tvs in zip(("", "_floor", "_independent"), *halves, strict=True):
            metrics[f"tv{k}_half{suffix}"] = sum(tv.mean().item() for tv in tvs) / len(tvs)
    return metrics


def _shape(tables: ComparedTables, rng: Rng) -> Numbers:
    """Return column shapes, pair trends, correlation differences and coverage of the synthetic rows.

    Bootstrap rows of the training table are the reference; pair trends are also given for independent columns, which
    have the shapes and the coverage of bootstrap rows.
    """
    train, ordered, metrics = tables.train, tables.is_ordered, Numbers()
    bootstrap = bootstrap_rows(train, len(tables.synthetic), rng)
    shuffled = shuffle_columns(bootstrap, rng.fold_in("independent"))
    metrics["pair_trends_independent"] = marginal_distance.mean_pair_trend(
        marginal_distance.pair_trends(shuffled, train, ordered)
    )
    for suffix, table in (("", tables.synthetic), ("_floor", bootstrap)):
        metrics[f"category_coverage{suffix}"] = marginal_distance.category_coverage(table, train, ordered)
        metrics[f"range_coverage{suffix}"] = marginal_distance.range_coverage(table, train, ordered)
        metrics[f"column_shapes{suffix}"] = marginal_distance.column_shapes(table, train, ordered).mean().item()
        metrics[f"pair_trends{suffix}"] = marginal_distance.mean_pair_trend(
            marginal_distance.pair_trends(table, train, ordered)
        )
        metrics[f"correlation_difference{suffix}"] = marginal_distance.correlation_difference(table, train, ordered)
    return metrics


def _utility(tables: ComparedTables, task: usefulness.PredictionTask, rng: Rng) -> Numbers:
    """Return the scores of models trained on synthetic rows and tested on real rows.

    References are the scores of models trained on real rows, and on at most INDEPENDENT_ROWS rows with independent
    columns. Without held-out rows the models are tested on the
    training table, and there is no reference.
    """
    train, target = tables.train, task.features.target
    test_rows = tables.held_out if tables.has_enough_held_out else train
    class_counts = train[:, target].bincount(minlength=task.num_answers)
    in_test = torch.zeros_like(class_counts).index_fill(0, task.with_answer(test_rows)[:, target], 1) > 0
    positive = int(torch.where(in_test, class_counts, len(train) + 1).argmin())  # rarest class in the test set
    synthetic_scores = usefulness.utility(task, tables.synthetic, test_rows, positive, rng)
    real = usefulness.utility(task, train, test_rows, positive, rng) if tables.has_enough_held_out else None
    shuffled = shuffle_columns(train, rng.fold_in("independent"))[:INDEPENDENT_ROWS]
    independent = usefulness.utility(task, shuffled, test_rows, positive, rng)
    metrics: Numbers = {}
    for model, scores in synthetic_scores.items():
        for name, value in scores.items():
            metrics[f"{name}_{model}"] = value
            metrics[f"{name}_{model}_independent"] = independent[model][name]
            metrics[f"{name}_{model}_real"] = None if real is None else real[model][name]
    train_targets, test_targets = task.truth(task.with_answer(train)), task.truth(task.with_answer(test_rows))
    if task.levels is None:
        metrics["accuracy_majority"] = float((test_targets == class_counts.argmax().item()).mean())
    elif len(train_targets) and len(test_targets):
        metrics["mae_mean"] = float(abs(test_targets - train_targets.mean()).mean())
    return metrics | {"boosted_by": usefulness.boosting()}


def _privacy(tables: ComparedTables, rng: Rng) -> Numbers:
    """Return metrics of copied training rows in the synthetic table.

    References are held-out rows, and a table of copies of training rows.
    """
    train, held_out, metrics = tables.train, tables.held_out, Numbers()
    copies = metrics["copies"] = copied_fraction(tables.synthetic, train)
    if tables.has_enough_held_out:
        reference, size = copied_fraction(held_out, train), len(held_out)
    else:
        reference, size = duplicated_fraction(train), len(train)
    metrics["copies_held_out"] = reference if tables.has_enough_held_out else None
    metrics["copies_real"] = None if tables.has_enough_held_out else reference
    interval = share_difference(copies, len(tables.synthetic), reference, size)
    metrics |= {"copies_excess": copies - reference}
    metrics |= {f"copies_excess_{end}": bound for end, bound in zip(("low", "high"), interval, strict=True)}
    bootstrap = bootstrap_rows(train, len(tables.synthetic), rng)
    for end, table in (("", tables.synthetic), ("_copied", bootstrap)):
        metrics[f"dcr_share{end}"] = dcr_fraction(table, train, held_out, rng) if tables.has_enough_held_out else None
        metrics[f"membership_auc{end}"] = (
            membership_auc(table, train, held_out, rng) if tables.has_enough_held_out else None
        )
    return metrics


def samples_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> Numbers:
    """Compute table metrics of samples against training and held-out rows, with utility for the schema's target."""
    return _quality_of(samples, train, held_out, rng, has_train=True)


def unseen_samples_quality(samples: Dataset, train: Dataset, held_out: Dataset, draws: Rng) -> Numbers:
    """Compute table metrics of samples against held-out rows, for use if the training rows are not available.

    `train` is ignored: the held-out rows take the place of the training rows. Utility models train on one half of these
    rows and are tested on the other half, and metrics of copies are skipped.
    """
    return _quality_of(samples, held_out, held_out.subset(torch.arange(0)), draws, has_train=False)


def _quality_of(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng, *, has_train: bool) -> Numbers:
    if (modality := train.modality.view(Table)) is None:
        raise InputError("a table", train.modality.display_name)
    columns = modality.schema.modelled
    synthetic, train_codes, held_out_codes = (modality.to_levels(data.values) for data in (samples, train, held_out))
    metrics = table_quality(
        synthetic,
        train_codes,
        held_out_codes,
        [len(column.level_names) for column in columns],
        ordered=[column.is_ordered for column in columns],
        target=modality.schema.target_index if len(columns) > 1 else None,
        names=[column.name for column in columns],
        rules=rule_checker(modality),
        rng=rng,
        has_train=has_train,
    )
    if not len(held_out):
        return {**metrics, "nll_baseline": None}
    baseline = independent_columns_nll(train.values, held_out.values, modality.to_levels, modality.counts)
    return {**metrics, "nll_baseline": baseline}


def rule_checker(kind: Table) -> Rules | None:
    """Return the function that checks the schema's rules between columns; None if the schema has no rules."""
    pairs = [(pair.first, pair.second, torch.from_numpy(pair.allowed)) for pair in kind.schema.pairs]
    if not pairs:
        return None
    return lambda codes: torch.stack([allowed[codes[:, a], codes[:, b]] for a, b, allowed in pairs]).all(0)
