"""Metrics of audits, documents, speech and tables."""

from dataclasses import dataclass

from feller.evaluation.documents import FEWEST
from feller.evaluation.report.wording import MISSING, is_number, number, percent

AGAINST_ITSELF = "real against real"
HELD_OUT = "there are no held-out data, or too few"
"""Why what needs unseen data is missing."""


@dataclass(frozen=True)
class Measure:
    """One number and how to read it."""

    label: str
    floor: str = ""
    """Name of the number that real data reach; empty if there is none."""
    real: str = AGAINST_ITSELF
    """What real data were compared with."""
    level: float | None = None
    """What real data reach by the definition of the number."""
    unit: str = ""
    is_share: bool = False

    def text(self, value: object) -> str:
        """Write a value in the form of this measure."""
        if isinstance(value, str):
            return value
        if not is_number(value):
            return MISSING
        return percent(value) if self.is_share else number(value)


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


DOCUMENT_MEASURES = {
    "perplexity": Measure("perplexity of all symbols"),
    "text_perplexity": Measure("perplexity of words"),
    "picture_perplexity": Measure("perplexity of pictures"),
    "picture_perplexity_1": Measure("perplexity of pictures behind a document that is found by words"),
    "picture_perplexity_2": Measure("perplexity of pictures behind two"),
    "picture_perplexity_random": Measure("perplexity of pictures behind two of any kind"),
    "match": Measure("likeness of words and drawn pictures", "match_real", "their own pictures"),
    "match_others": Measure("likeness of words and others' pictures"),
    "answers_exact": Measure("hidden texts filled in right", "answers_usual", "always the commonest", is_share=True),
    "answers_f1": Measure(
        "words in common with hidden texts", "answers_f1_usual", "always the same text", is_share=True
    ),
}
DOCUMENT_WHY_MISSING = {
    **dict.fromkeys(("perplexity", "text_perplexity", "picture_perplexity"), "no document has such symbols"),
    **dict.fromkeys(
        ("answers_exact", "answers_f1", "answers_usual", "answers_f1_usual"),
        f"there are fewer than {FEWEST} documents to tell by",
    ),
    "match_others": "there is one document alone",
    **dict.fromkeys(("match", "match_real"), HELD_OUT),
}


REAL = "real speech, same vocoder"
SPEECH_MEASURES = {
    "word_error_rate": Measure("words that Whisper hears wrong", "word_error_rate_floor", REAL, is_share=True),
    "speaker_similarity": Measure("likeness of voices to their prompts", "speaker_similarity_floor", REAL),
    "frechet_speech": Measure("distance from real speech", "frechet_speech_floor", REAL),
    "opinion": Measure("quality as DNSMOS guesses it", "opinion_floor", REAL, unit="of 5"),
    "opinion_speech": Measure("quality of the voice alone", "opinion_speech_floor", REAL, unit="of 5"),
    "opinion_background": Measure("quality of the background", "opinion_background_floor", REAL, unit="of 5"),
    "phone_mae": Measure("error of durations of phones", unit="frames"),
    "silence_mae": Measure("error of durations of silences", unit="frames"),
    "duration_correlation": Measure("slow speakers go on slowly"),
    "phone_fdd": Measure("distance of durations from learned ones", unit="frames squared"),
    "phone_mae_drawn": Measure("error of durations that are drawn, their mean", unit="frames"),
    "duration_correlation_drawn": Measure("slow speakers go on slowly, drawn"),
    "phone_fdd_drawn": Measure("distance of drawn durations from learned ones", unit="frames squared"),
    "detected": Measure("told from recordings by the detector", is_share=True),
    "detected_resynthesised": Measure("told from recordings through the same vocoder", is_share=True),
    "synthesis": Measure("seconds for a second of log mels"),
}
SPEECH_ASIDE = (
    *("word_error_rate_low", "word_error_rate_high", "voiceless"),
    *("detected_low", "detected_high", "detected_resynthesised_low", "detected_resynthesised_high"),
)
"""What stands in the table of all numbers alone."""
SPEECH_WHY_MISSING = {
    "frechet_speech": "there are too few sounds with a voice",
    **dict.fromkeys(("speaker_similarity", "speaker_similarity_floor"), "no sound is long enough to have a voice"),
    **dict.fromkeys(("phone_mae", "phone_mae_drawn"), "no phone was hidden"),
    **dict.fromkeys(("silence_mae",), "no silence was hidden"),
    **dict.fromkeys(("duration_correlation", "duration_correlation_drawn"), "there are fewer than three utterances"),
}


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
