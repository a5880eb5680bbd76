"""What the numbers of a synthetic table mean, for those who own the table."""

SET = {1: "values of a column", 2: "pairs of values of two columns", 3: "triples of values of three columns"}
LEARNER = {"boosted": "gradient boosting, many small decision trees", "linear": "a linear model"}


def _explain_marginals() -> dict[str, str]:
    told = {}
    for size, what in SET.items():
        name = f"tv{size}"
        each = ("column", "pair of columns", "triple of columns")[size - 1]
        over = ("all columns", "all pairs of columns", "all triples of columns")[size - 1]
        told |= {
            name: f"Share of the rows that would have to change for the {what} to be as frequent as in the training"
            f" table, on average over {over}: 0 is best, {name}_floor is what chance alone leaves.",
            f"{name}_floor": "The same of a table of real rows, drawn from the training table with replacement: rows"
            " drawn at random come no nearer.",
            f"{name}_independent": "The same of the training table with every column shuffled on its own, so that no"
            " column tells of another: "
            + (
                "always 0, since each column stays as it is."
                if size == 1
                else "a synthetic table should be well below."
            ),
            f"{name}_test": f"The same as {name}, but beside real rows that the model has not seen, which is the honest"
            f" comparison: {name}_test_floor is as good as real.",
            f"{name}_test_floor": "The same between the training table and those unseen rows.",
            f"{name}_max": f"The same as {name} of the {each} that fits worst.",
            f"{name}_worst": f"The {each} that fits worst.",
        }
    return told


def _classes() -> dict[str, str]:
    told = {}
    for kind, model in LEARNER.items():
        told |= {
            f"auc_{kind}": f"How well {model}, learned from the synthetic table, puts real rows in order by the target:"
            " 1 is perfect, 0.5 is guessing (area under the ROC curve).",
            f"accuracy_{kind}": f"Share of real rows whose target {model} tells right after learning from the synthetic"
            " table; accuracy_majority is what naming the commonest value reaches.",
            f"f1_{kind}": f"How well {model}, learned from the synthetic table, finds the rarer value of the target in"
            " real rows: 1 is perfect, 0 finds none (F1; of more than two values in the real rows, their mean).",
        }
    return told


def _numbers() -> dict[str, str]:
    told = {}
    for kind, model in LEARNER.items():
        told |= {
            f"r2_{kind}": f"Share of the variance of the target in real rows that {model} explains after learning from"
            " the synthetic table: 1 is perfect, 0 is no better than the mean.",
            f"mae_{kind}": f"By how much {model}, learned from the synthetic table, is wrong about the target of real"
            " rows, on average; mae_mean is what telling always the mean reaches.",
        }
    return told


LEARNED = _classes() | _numbers()
NO_PROOF = (
    "An alarm, not a guarantee: a table that passes can still give people away, only epsilon and delta bound that."
)
EXPLAIN = {
    "valid": "Share of synthetic rows that the schema allows: every value known to its column, every rule kept. It must"
    " be all of them.",
    **_explain_marginals(),
    "k_marginal": "The pairs of columns on the scale of NIST: 1000 is perfect, 0 has nothing in common.",
    "k_marginal_floor": "The same of real rows drawn from the training table with replacement.",
    "column_shapes": "How alike each column is to that of the training table, on average: 1 is the same distribution, 0"
    " has no value in common.",
    "column_shapes_floor": "The same of real rows drawn from the training table with replacement.",
    "pair_trends": "How alike pairs of columns go together as in the training table, on average: 1 is the same.",
    "pair_trends_floor": "The same of real rows drawn from the training table with replacement.",
    "correlation_difference": "By how much correlations of columns with an order differ from those of the training"
    " table, on average: 0 is best.",
    "correlation_difference_floor": "The same of real rows drawn from the training table with replacement.",
    **LEARNED,
    **{f"{name}_real": f"The same as {name} after learning from the real training table instead." for name in LEARNED},
    "accuracy_majority": "Share of real rows that are told right by naming always the commonest value of the target.",
    "mae_mean": "Error of telling always the mean of the training table.",
    "told_column": "The column that is told from the others, to see what the table is worth: the target of the schema."
    " All numbers of boosted and of linear models are about it.",
    "boosted_by": "The program that made the decision trees.",
    "copies": "Share of synthetic rows that have the same words, and numbers and dates in the same bins, as some row of"
    " the training table, in all columns; copies_written counts rows alike to the last digit; copies_held_out is what"
    f" unseen real rows reach, and far above it hints at copying. {NO_PROOF}",
    "copies_held_out": "The same share of real rows that the model has not seen: people can be alike by chance.",
    "dcr_share": "Share of synthetic rows that are nearer to a row of the training table than to one of as many unseen"
    f" people; ties count half, so 50 % is right and far above hints at copying. {NO_PROOF}",
    "dcr_share_copied": "The same of a table that is made of copies, to show how an alarm looks.",
    "membership_auc": "How well someone who has the synthetic table and one person's row can tell whether that person"
    f" was in the training table, by nearness: 0.5 is guessing, 1 is certainty. {NO_PROOF}",
    "membership_auc_copied": "The same of a table that is made of copies, to show how an alarm looks.",
}
"""One plain sentence for each number."""
