"""What the numbers of an audit are called, and what stands beside them."""

from feller.evaluation.report.reading import Measure

GUESSING, NO_MORE = "guessing", "no copying"
WAYS = {
    "loss": "telling members by losses",
    "nearness": "telling members by nearness",
    "density": "telling members by densities",
    "shadow": "telling members by models trained again (LiRA)",
    "relative": "telling members by losses below the usual",
    "planted": "finding planted rows by losses",
    "overheard": "finding planted rows by noisy gradients",
}
ORDER_2 = {
    "epsilon_order2": Measure("divergence of order 2, one row replaced"),
    "epsilon_order2_added": Measure("divergence of order 2, one row more"),
}
OLD = dict(zip(("epsilon_2", "epsilon_2_added"), ORDER_2.values(), strict=True))
"""The same under the names that older reports carry."""
ATTACK_MEASURES = {
    **ORDER_2,
    **OLD,
    "mse_bound": Measure("least error of reconstruction, for all rows", "blind", "a blind guess of 0 to 1"),
    "blind": Measure("error of a blind guess of 0 to 1"),
    "guess_0.1": Measure(
        "right guess, one in ten without the model", real="without the model", level=0.1, is_share=True
    ),
    "fisher_least": Measure("least error of reconstruction, the most exposed row", "spread", "answering the mean"),
    "fisher_median": Measure("least error of reconstruction, the row in the middle", "spread", "answering the mean"),
    "fisher_with_prior": Measure("the same of who knows what rows look like", "spread", "answering the mean"),
    "inversion_error": Measure("error of rows read from gradients", "inversion_bound", "least that is possible"),
    "inversion_step_error": Measure("the same from one step", "inversion_step_bound", "least that is possible"),
    "inversion_unbiased": Measure(
        "the same without bias, from all steps", "inversion_unbiased_bound", "least that is possible"
    ),
    "inversion_spread": Measure("error of answering the mean row"),
    "rebuilt_error": Measure("error of rebuilding a row from the weights", "spread", "answering the mean"),
    "copies": Measure("samples that count as a training example", "copies_held_out", "unseen data", is_share=True),
    "passages": Measure(
        "texts with a passage from the training text", "passages_held_out", "unseen text", is_share=True
    ),
    **{f"{way}_auc": Measure(f"{label} (AUC)", real=GUESSING, level=0.5) for way, label in WAYS.items()},
    **{
        f"{way}_caught": Measure(f"{label}, caught", real=GUESSING, level=0.01, is_share=True)
        for way, label in WAYS.items()
    },
    **{f"{way}_epsilon": Measure(f"{label}, epsilon proven") for way, label in WAYS.items()},
    "candidates_right": Measure(
        "naming the right one of ten candidates", "candidates_blind", "naming any of them", is_share=True
    ),
    "candidates_least": Measure("the chance of that, at least", is_share=True),
    "candidates_bound": Measure("what the guarantee allows of that, at most", is_share=True),
    "candidates_blind": Measure("naming any of ten candidates", is_share=True),
}
ATTACK_ASIDE = (
    *(*ORDER_2, *OLD, "blind", "spread", "fisher_rows", "guess_0.00391", "guess_0.02", "guess_0.5"),
    *(f"{way}_{what}" for way in WAYS for what in ("caught", "epsilon")),
    *("copies_held_out", "passages_held_out", "label_least"),
    *(f"rebuilt_{what}" for what in ("rows", "steady", "below", "error_known")),
    *("noise_held", "noise_held_least"),
    *(f"inversion_{what}" for what in ("doubt", "spread", "steps", "rows", "below")),
    *("shadows", "canaries", "candidates_places", "candidates_blind", "candidates_least", "candidates_bound"),
)
"""What stands among all numbers, or in a table, and not on the page's first ones."""
OWN = (
    *(f"{way}_auc" for way in WAYS),
    *("mse_bound", "passages", "fisher_least", "rebuilt_error", "inversion_error", "candidates_right"),
)
"""What an audit alone has."""
ATTACK_WHY_MISSING = {
    "blind": "the run is not private, and has no such bound",
    "spread": "no row was watched in training",
    "candidates_blind": "no rows were planted",
    "passages_held_out": "no texts are held out",
    **dict.fromkeys(
        ("inversion_bound", "inversion_step_bound", "inversion_unbiased_bound"), "no rows were read from gradients"
    ),
}
"""Why a number of an audit is not there."""
