"""What the numbers of a model of documents are called, and what stands beside them."""

from feller.evaluation.answers import FEWEST
from feller.evaluation.report.reading import HELD_OUT, Measure

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
