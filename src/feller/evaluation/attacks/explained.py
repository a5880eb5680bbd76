"""What the numbers of attacks mean, for people."""

WAYS = {
    "loss": "by the model's own loss, which is lower on what it has seen",
    "nearness": "by how near the closest sample is",
    "density": "by how much likelier a row is under synthetic rows than under real ones that were not learned from"
    " (DOMIAS)",
    "shadow": "by the likelihood ratio of its loss among those of models that were trained again with it and without it"
    " (LiRA)",
    "relative": "by how far its loss is below the mean of those of models that were trained again",
    "planted": "among rows planted in a training of its own, by how far their losses are below those in the run",
    "overheard": "among rows planted in a training of its own, by all its noisy gradients",
}
"""Ways to tell members from others."""
PLANTED = ("planted", "overheard")
"""Those of them that are about planted rows: half are in a training that is made for the audit, by the flip of a coin.
"""
EXPLAIN = {
    "copies": "Share of samples that are the same as one of the training data, by what counts as the same in data of"
    " their kind, whatever their order or turn: of tables, the same words and bins in all columns, whatever numbers are"
    " written; copies_held_out is what unseen data reach.",
    "copies_held_out": "Share of unseen examples that stand in the training data, too: alike by chance.",
    "passages": "Share of sampled texts with 50 symbols in a row, or all of a shorter text, that stand in the training"
    " text; passages_held_out is what unseen text reaches.",
    "passages_held_out": "Share of unseen texts with 50 symbols in a row that stand in the training text, too.",
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
                f"Epsilon that is proven by telling members {how}, at 95 %: the epsilon that a private"
                " model states must not be below it; 0 proves nothing.",
            ),
        )
    },
    "inversion_error": "Mean squared error of who reads rows from the noisy gradients of all steps that hold them, and"
    " knows all other rows and what rows look like; per direction in which rows vary, measured on a few rows.",
    "inversion_bound": "What that error cannot be below, but by chance: van Trees' inequality, with the information of"
    " all these gradients.",
    "inversion_doubt": "Standard error of inversion_error.",
    "inversion_spread": "Mean squared error of answering the mean row, in the same units.",
    "inversion_step_error": "The same error, from the noisy gradient of one step that holds the row.",
    "inversion_step_bound": "What that error cannot be below, but by chance.",
    "inversion_unbiased": "Mean squared error of who is right on average, to first order: one step of Gauss and Newton"
    " from the truth, by the gradients of all steps that hold a row.",
    "inversion_unbiased_bound": "What that error cannot be below: one over the information.",
    "inversion_steps": "Steps that hold a row, on average.",
    "inversion_rows": "Rows that were looked for in gradients.",
    "inversion_below": "Ways to read rows from gradients whose error lies below its bound by four standard errors: 0"
    " unless the noise is less than what is charged.",
    "shadows": "Models that were trained again, each on half of all rows.",
    "canaries": "Rows that were planted in a training of its own, to be looked for.",
    "candidates_places": "Of these, places that each hold one of ten candidates, for an attacker who knows all else and"
    " sees every noisy gradient.",
    "candidates_right": "Share of the places at which the attacker named the right candidate.",
    "candidates_least": "Chance of that, at least; chance alone would exceed it three times in a hundred thousand.",
    "candidates_bound": "What the guarantee allows of that, at most; below the least, it does not hold.",
    "candidates_blind": "What naming any of the candidates reaches, without the gradients.",
    "fisher_rows": "Rows of which account was kept: those that were watched in training, or all of a linear model.",
    "fisher_least": "Least mean squared error, per number, of an attacker without bias, for the most exposed of these"
    " rows.",
    "fisher_median": "The same for the row in the middle.",
    "fisher_with_prior": "Least mean squared error, over all watched rows, of an attacker who knows what rows look like"
    " (a normal law with all its directions), but not in which steps a row was: never above their own spread.",
    "spread": "Mean squared error of answering the mean, which needs no model.",
}
"""One plain sentence for each number."""
