"""How good answers in words are."""

import re
from collections import Counter

FEWEST = 8
"""Answers below which a share says nothing."""
MAX_TEXTS = 100
"""Different texts, the most frequent ones, among which the one is looked for that is most like the others."""
ARTICLES = ("a", "an", "the")


def words(text: str) -> list[str]:
    """Return the words and numbers of a text, in small letters, without articles."""
    return [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in ARTICLES]


def commonest(texts: Counter[str]) -> str:
    """Return the text that has most words in common with all others, of the most frequent ones; in order, the first."""
    weighed = texts.most_common(MAX_TEXTS)
    scores = [sum(token_f1(one, other) * count for other, count in weighed) for one, _ in weighed]
    return weighed[scores.index(max(scores))][0]


def exact(answer: str, wanted: str) -> bool:
    """Tell whether an answer is the wanted one, but for capitals, articles, spaces and stops."""
    return words(answer) == words(wanted)


def token_f1(answer: str, wanted: str) -> float:
    """Return the harmonic mean of the shares of words that two texts have in common, from 0 to 1.

    Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ questions for machine comprehension of text", arXiv 1606.05250.
    """
    given, right = words(answer), words(wanted)
    if not given or not right:
        return float(given == right)
    common = (Counter(given) & Counter(right)).total()
    return 2 * common / (len(given) + len(right))
