"""What one answer for all reaches."""

from collections import Counter

from feller.evaluation.documents import commonest


def test_the_best_constant_answer_is_most_like_the_others() -> None:
    """The most frequent has little in common with the others; one has most of its words in common with all."""
    texts = Counter({"a red star": 2, "a red ring on blue": 1, "a green ring on blue": 1, "a ring on blue": 1})
    assert commonest(texts) == "a red ring on blue"
    assert commonest(Counter({"yes": 3, "no": 1})) == "yes"
