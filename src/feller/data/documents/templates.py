"""How instructions are laid out as documents; those of tuning and those of asking are the same.

An answer stands before its picture, where a caption does: hidden, it moves behind, so that one layout serves to draw by
a text and to answer about a picture. Source: Yu et al. 2023, arXiv 2309.02591, table 5.
"""

from collections.abc import Sequence

from feller.data.documents.token_layout import Hole, Infill
from feller.data.loading.raw import Item, Said, Shown

EDIT = "Edit first image following the instruction"
QUESTION, ANSWER, STOP = "Question: ", " Answer: ", "."


def edit(instruction: str) -> tuple[Item, ...]:
    """Return what stands before an edited picture, of which picture 0 is the first."""
    return (Said(EDIT), Shown(0), Said(instruction))


def question(asked: str, answer: Item | Hole) -> tuple[Item | Hole, ...]:
    """Return a question about picture 0."""
    return (Said(f"{QUESTION}{asked}{ANSWER}"), answer, Said(STOP), Shown(0))


def ask(asked: str) -> Sequence[Item | Hole | Infill]:
    """Return a question about picture 0 whose answer is asked for."""
    return (*question(asked, Hole()), Infill())


def question_in(items: Sequence[Item]) -> str:
    """Return what a document asks; empty where it is no question."""
    first = items[0].text.strip() if items and isinstance(items[0], Said) else ""
    stem, end = QUESTION.strip(), ANSWER.strip()
    return first.removeprefix(stem).removesuffix(end).strip() if first.startswith(stem) and first.endswith(end) else ""


def instruction_in(items: Sequence[Item]) -> str:
    """Return after which words a document edits a picture; empty where it does not."""
    match items:
        case [Said(text=before), Shown(), Said(text=words), Shown()] if before.strip() == EDIT:
            return words.strip()
    return ""
