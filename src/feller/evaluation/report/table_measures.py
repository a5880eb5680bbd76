"""What the numbers of synthetic tables are called, and what stands beside them."""

from feller.evaluation.report.reading import HELD_OUT, Measure

AGAIN, UNSEEN_ROWS, LEARNED = "real rows drawn again", "unseen real rows", "learned from real rows"
LEARNERS = {"boosted": "gradient boosting", "linear": "linear model"}
SCORES = ("auc", "accuracy", "f1", "r2", "mae")


def _measures() -> dict[str, Measure]:
    """Name the numbers of synthetic tables."""
    named = {"valid": Measure("rows that the schema allows", real="real rows", level=1.0, is_share=True)}
    for size, what in ((1, "rows off in a column"), (2, "rows off in two columns"), (3, "rows off in three columns")):
        named |= {
            f"tv{size}": Measure(what, f"tv{size}_floor", AGAIN, is_share=True),
            f"tv{size}_test": Measure(
                f"{what}, beside unseen rows", f"tv{size}_test_floor", "training rows", is_share=True
            ),
            f"tv{size}_max": Measure(f"{what}, the worst ones", is_share=True),
            f"tv{size}_worst": Measure(f"{what}: the worst"),
            f"tv{size}_independent": Measure(f"{what}, were columns unrelated", is_share=True),
        }
    named |= {
        "k_marginal": Measure("k-marginal score", "k_marginal_floor", AGAIN),
        "column_shapes": Measure("likeness of columns", "column_shapes_floor", AGAIN, is_share=True),
        "pair_trends": Measure("likeness of pairs of columns", "pair_trends_floor", AGAIN, is_share=True),
        "correlation_difference": Measure("difference of correlations", "correlation_difference_floor", AGAIN),
    }
    for kind, model in LEARNERS.items():
        named |= {
            f"auc_{kind}": Measure(f"area under ROC, {model}", f"auc_{kind}_real", LEARNED),
            f"accuracy_{kind}": Measure(f"told right, {model}", f"accuracy_{kind}_real", LEARNED, is_share=True),
            f"f1_{kind}": Measure(f"F1, {model}", f"f1_{kind}_real", LEARNED),
            f"r2_{kind}": Measure(f"variance explained, {model}", f"r2_{kind}_real", LEARNED, is_share=True),
            f"mae_{kind}": Measure(f"mean absolute error, {model}", f"mae_{kind}_real", LEARNED),
        }
    return named | {
        "empty": Measure("empty cells", "empty_real", "the real table", is_share=True),
        "clipped": Measure("real cells beyond the schema", is_share=True),
        "clipped_max": Measure("real cells beyond the schema, of one column", is_share=True),
        "clipped_worst": Measure("real cells beyond the schema: the worst"),
        "merged": Measure("real words read as the one for all others", is_share=True),
        "cells_real": Measure("cells of the real table"),
        "left_out": Measure("columns left out"),
        "numbers_off": Measure("columns of numbers that are far off"),
        "accuracy_majority": Measure("told right by the commonest value", is_share=True),
        "mae_mean": Measure("mean absolute error of the mean"),
        "told_column": Measure("told from the others"),
        "boosted_by": Measure("made the trees"),
        "copies": Measure(
            "rows like a training row in all words and bins", "copies_held_out", UNSEEN_ROWS, is_share=True
        ),
        "copies_written": Measure("rows that stand in the real table as written", is_share=True),
        "dcr_share": Measure("rows nearer to training rows", real="no copying", level=0.5, is_share=True),
        "dcr_share_copied": Measure("rows nearer to training rows, of a table of copies", is_share=True),
        "membership_auc": Measure("telling who was in the table (AUC)", real="guessing", level=0.5),
        "membership_auc_copied": Measure("telling who was in a table of copies (AUC)"),
        "epsilon_pld": Measure("epsilon by privacy loss distributions"),
        "epsilon_rdp": Measure("epsilon by Rényi divergences"),
        "rows_protected": Measure("rows that are protected"),
    }


TABLE_MEASURES = _measures()
TABLE_ASIDE = (
    *("tv1_max", "tv2_max", "tv3_max", "tv1_independent", "tv3_independent"),
    *("tv1_test", "tv3_test", "k_marginal", "correlation_difference", "accuracy_majority", "mae_mean"),
    *("dcr_share_copied", "membership_auc_copied", "nll_baseline", "merged", "clipped_max", "cells_real"),
)
"""References and second looks, which stand among all numbers and not on the page's first ones."""
ONE_VALUE = "the target has one value only in the table that was learned from, or there is no other column"
COLUMNS = "the table has too few columns"
TABLE_WHY_MISSING = {
    **dict.fromkeys(("tv2", "tv2_max", "tv2_independent", "k_marginal", "pair_trends"), COLUMNS),
    **dict.fromkeys(("tv3", "tv3_max", "tv3_independent"), COLUMNS),
    **dict.fromkeys(("tv1_test", "tv2_test", "tv3_test", "dcr_share", "membership_auc"), HELD_OUT),
    **dict.fromkeys(("dcr_share_copied", "membership_auc_copied", "copies_held_out"), HELD_OUT),
    **{f"{score}_{kind}": ONE_VALUE for score in SCORES for kind in LEARNERS},
    **{f"{score}_{kind}_real": HELD_OUT for score in SCORES for kind in LEARNERS},
    **dict.fromkeys(
        ("empty", "empty_real", "clipped", "clipped_max", "merged"), "the file of the table is not at hand"
    ),
    "correlation_difference": "fewer than two columns have an order",
}
"""Why a number of a table is not there."""
