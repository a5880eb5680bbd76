"""Key numbers, each beside what real data reach."""

from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from feller.evaluation.report.html import Child, element, prose, section
from feller.evaluation.report.metrics import (
    Measure,
    Numbers,
    audits,
    continues,
    copies,
    joins,
    leading,
    measure,
    real,
    resynthesises,
    speaks,
    tells,
    why_missing,
)
from feller.evaluation.report.spoken import spoken
from feller.evaluation.report.wording import MISSING, Number, capital, is_number, sentence

GREY = "Grey is what real data reach when they are measured in the same way, which is as good as one can hope for."
JOINED = (
    "Grey is what members of the populations reach among themselves, measured in the same way; beside the cost of the"
    " journey it is what plain bridges cost, which do not mind yours."
)
AUDITED = "Grey is what stands beside it: guessing, an answer without the model, or the bound."
CONSTANT = "Grey is what one answer for all examples reaches."
CONTINUED = (
    "Grey is what stands beside it: the pictures that belong to the words, always the same answer, or, of copies,"
    " pictures whose cells of pixels, each with its code, become their mean colours."
)
OWN = {"before", "those that the model knows", "any samples"}
WITHOUT_DATA = (
    "Grey is what stands beside it: samples before, sources that the model knows, or any samples of the model."
)
SHRUNK = "Grey is what needs no learning: each cell of pixels that has a code becomes its mean colour."
PHASES = "Grey is what needs no learning: Griffin-Lim, 32 times back and forth."


def key_numbers(
    numbers: Numbers, explanations: Mapping[str, str], missing: Mapping[str, str], heading: str = ""
) -> Element:
    """Set each number that says how good the samples are beside what real data reach."""
    names = leading(numbers)
    heading = heading or f"How {_judged(numbers)}"
    if not names:
        return section(heading, element("p", None, "No number was measured."))
    cards = [_card(name, numbers, explanations, missing) for name in names]
    barred = [
        name for name, card in zip(names, cards, strict=True) if any(part.get("class") == "bars" for part in card)
    ]
    judge = numbers.get("judge")
    words = [_grey(numbers, {measure(name, numbers).real for name in barred})] if barred else []
    words += [f"Judge: {judge.removesuffix('.')}."] if isinstance(judge, str) else []
    note = element("p", {"class": "soft"}, " ".join(words)) if words else None
    return section(heading, note, element("dl", {"class": "numbers"}, *cards))


def _grey(numbers: Numbers, beside: set[str]) -> str:
    """Say what the second bars are, some of which may be of no real data."""
    if beside <= OWN:
        return WITHOUT_DATA
    if tells(numbers):
        return CONSTANT
    if copies(numbers):
        return SHRUNK
    if resynthesises(numbers):
        return PHASES
    if continues(numbers):
        return CONTINUED
    if joins(numbers):
        return JOINED
    return AUDITED if audits(numbers) else GREY


def _judged(numbers: Numbers) -> str:
    """Say what the numbers are to tell."""
    if tells(numbers):
        return "right the answers are"
    if copies(numbers) or resynthesises(numbers):
        return "good the copies are"
    if continues(numbers):
        return "well it knows documents"
    if speaks(numbers):
        return "well it speaks"
    return "good the bridge is" if joins(numbers) else "good the samples are"


def _card(name: str, numbers: Numbers, explanations: Mapping[str, str], missing: Mapping[str, str]) -> Element:
    kind, value = measure(name, numbers), numbers[name]
    unit = element("small", None, f" {kind.unit}") if kind.unit and is_number(value) else None
    parts: list[Child] = [
        element("dt", None, capital(kind.label)),
        element("dd", {"class": "value"}, kind.text(value), unit),
    ]
    if not is_number(value):
        parts.append(element("dd", {"class": "floor"}, sentence(why_missing(name, numbers, missing))))
    elif kind.floor or kind.level is not None:
        parts += _beside(kind, value, numbers, missing)
    if name in explanations:
        parts.append(element("dd", {"class": "meaning"}, *prose(spoken(name, numbers, explanations))))
    return element("div", None, *parts)


def _beside(kind: Measure, value: Number, numbers: Numbers, missing: Mapping[str, str]) -> Iterator[Element]:
    """Compare a number with what real data reach, in words and as two bars."""
    reached = numbers.get(kind.floor) if kind.level is None else kind.level
    if not is_number(reached):
        why = why_missing(kind.floor, numbers, missing)
        yield element("dd", {"class": "floor"}, element("b", None, kind.real), f" {MISSING} ({why})")
        return
    largest = 1.0 if kind.is_share else max(value, reached)
    if min(value, reached) >= 0 and largest > 0:
        bars = [element("i", {"style": f"width:{100 * part / largest:.1f}%"}) for part in (value, reached)]
        yield element("dd", {"class": "bars", "aria-hidden": "true"}, *bars)
    text = kind.text(reached) if kind.level is None else f"{kind.level:g}"
    yield element("dd", {"class": "floor"}, element("b", None, real(kind, numbers)), f" {text}")
