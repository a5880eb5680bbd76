"""What the numbers of attacks mean, for people."""

WAYS = {
    "loss": "by the model's own loss, which is lower on what it has seen",
    "nearness": "by how near the closest sample is",
    "density": "by how much likelier a row is under synthetic rows than under real ones that were not learned from"
    " (DOMIAS)",
}
"""Ways to tell members from others."""
EXPLAIN = {
    "copies": "Share of samples that stand in the training data; copies_held_out is what unseen data reach.",
    "copies_held_out": "Share of unseen examples that stand in the training data, too: alike by chance.",
    "nearest_ratio": "How far samples lie from the nearest training example, beside unseen data (medians): far below 1"
    " hints at copying.",
    **{
        name: text
        for way, how in WAYS.items()
        for name, text in (
            (f"{way}_auc", f"How well members of the training data are told from others {how}: 0.5 is guessing."),
            (
                f"{way}_caught",
                f"Share of members that are caught {how}, if one other in a hundred is accused: 0.01 is guessing.",
            ),
            (
                f"{way}_epsilon",
                f"Epsilon that is proven by telling members {how}, at 95 %: a private model must not be"
                " below it; 0 proves nothing.",
            ),
        )
    },
    "fisher_rows": "Rows of which account was kept: those that were watched in training, or all of a linear model.",
    "fisher_least": "Least mean squared error, per number, of an attacker without bias, for the most exposed of these"
    " rows.",
    "fisher_median": "The same for the row in the middle.",
    "fisher_with_prior": "Least mean squared error of an attacker who knows what rows look like, over all watched rows:"
    " never above their own spread.",
    "spread": "Mean squared error of answering the mean, which needs no model.",
}
"""One plain sentence for each number."""
