"""The first sentence of a report on documents."""

from feller.app.workflows.documents.evaluate_documents import _said

KNOWN = {"picture_perplexity": 3.0, "answers_exact": 0.0, "answers_f1": 0.3, "answers_usual": 0.01}


def test_words_in_common_stand_beside_those_of_always_the_same_text() -> None:
    told = _said({**KNOWN, "answers_f1_usual": 0.63}, 167)
    assert told.startswith("At each place of other pictures it hesitates between 3 of 167 codes.")
    assert told.endswith("have 30% of their words in common with the hidden ones; always the same text, 63%.")


def test_more_than_all_codes_is_worse_than_chance() -> None:
    told = _said({**KNOWN, "picture_perplexity": 355.0}, 167)
    assert told.startswith("It knows other pictures no better than chance: a perplexity of 355, of 167 codes alone.")
