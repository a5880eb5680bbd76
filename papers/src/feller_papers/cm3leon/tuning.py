"""What tuning on instructions teaches, task by task, beside the model that it began with."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from feller.core.rng import Rng
from feller.evaluation.document_metrics import is_exact_match, token_f1
from feller.networks.sequence.gpt import GPTNetwork
from feller_papers.claims import Claim, mean_of, seeds_of, verdict
from feller_papers.cm3leon.asking import TOP_P, pictures, to_say, words
from feller_papers.cm3leon.differences import Difference, difference, listed
from feller_papers.cm3leon.guidance import attributes
from feller_papers.cm3leon.models import base, tuned
from feller_papers.cm3leon.reading import read_letters, read_scenes, stacked
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import World, world
from feller_papers.scenes.documents import Written

Marks = Callable[[GPTNetwork, World, Sequence[Written], Rng], Float64[Tensor, " n"]]
"""(network, world, documents of a task, draws) -> from 0 to 1, how right each answer is."""
Without = Callable[[Sequence[Written]], tuple[str, list[float]]]
"""Documents of a task -> what answers without a model, and how right each of its answers is."""
Right = Callable[[UInt8[Tensor, "n 3 h w"], UInt8[Tensor, "n 3 h w"]], list[float]]
"""(pictures, real ones) -> how right each is."""


def _drawing(right: Right) -> Marks:
    def marks(network: GPTNetwork, it: World, documents: Sequence[Written], draws: Rng) -> Tensor:
        drawn = pictures(network, it, documents, draws, ways=(TOP_P,))
        return torch.tensor(right(drawn, stacked([one.pictures()[-1] for one in documents])), dtype=torch.float64)

    return marks


def _saying(score: Callable[[str, str], float]) -> Marks:
    def marks(network: GPTNetwork, it: World, documents: Sequence[Written], draws: Rng) -> Tensor:
        asked, truth = zip(*map(to_say, documents), strict=True)
        told = words(network, it, asked, draws)
        return torch.tensor([float(score(a, b)) for a, b in zip(told, truth, strict=True)], dtype=torch.float64)

    return marks


def as_scenes(drawn: UInt8[Tensor, "n 3 h w"], real: UInt8[Tensor, "n 3 h w"]) -> list[float]:
    """Return of each picture the share of ground, number, colours and shapes that are read as in the real one."""
    pairs = zip(read_scenes(real), read_scenes(drawn), strict=True)
    return [attributes([one], [other]) for one, other in pairs]


def as_letters(drawn: UInt8[Tensor, "n 3 h w"], real: UInt8[Tensor, "n 3 h w"]) -> list[float]:
    """Return for each picture the share of letters that are read as in the real one, at the same places."""
    words = zip(read_letters(drawn), read_letters(real), strict=True)
    return [sum(a == b for a, b in zip(one, other, strict=False)) / max(len(one), len(other)) for one, other in words]


def _unchanged(documents: Sequence[Written]) -> tuple[str, list[float]]:
    pairs = [one.pictures() for one in documents]
    return "the first picture as it is", as_scenes(stacked([a for a, _ in pairs]), stacked([b for _, b in pairs]))


def _usual(score: Callable[[str, str], float]) -> Without:
    def marks(documents: Sequence[Written]) -> tuple[str, list[float]]:
        truth = [to_say(one)[1] for one in documents]
        usual = Counter(truth).most_common(1)[0][0]
        return "the commonest answer", [float(score(usual, one)) for one in truth]

    return marks


@dataclass(frozen=True)
class Exam:
    """How a task is marked."""

    what: str
    """For people."""
    marks: Marks
    without: Without | None = None
    """What is reached without a model, of which a model that has learned the task knows more."""


EXAMS = {
    "edit": Exam("attributes of the scene that was asked for", _drawing(as_scenes), _unchanged),
    "edges": Exam("attributes", _drawing(as_scenes)),
    "segmentation": Exam("attributes", _drawing(as_scenes)),
    "grounding": Exam("attributes", _drawing(as_scenes)),
    "letters": Exam("letters that are read as they were asked for", _drawing(as_letters)),
    "caption": Exam("F1 of words", _saying(token_f1), _usual(token_f1)),
    "details": Exam("F1 of words", _saying(token_f1), _usual(token_f1)),
    "question": Exam("answers that are right", _saying(is_exact_match), _usual(is_exact_match)),
}


def _told(beside: list[tuple[str, float]]) -> str:
    return f"; {beside[0][0]} {mean_of([mark for _, mark in beside], 3)}" if beside else ""


def _beyond(above: list[Difference]) -> str:
    return f", and from what needs no model by {listed(above)}" if above else ""


def tasks(setting: Setting) -> Iterator[Claim]:
    """Each task, before and after tuning, by the same prompts, and beside what needs no model."""
    found: dict[str, list[tuple[float, float]]] = {task: [] for task in EXAMS}
    apart: dict[str, list[Difference]] = {task: [] for task in EXAMS}
    beside: dict[str, list[tuple[str, float]]] = {task: [] for task in EXAMS}
    above: dict[str, list[Difference]] = {task: [] for task in EXAMS}
    for seed in setting.seeds:
        it, draws = world(setting, seed), Rng(seed).fold_in("tasks")
        for task, exam in EXAMS.items():
            documents = [one for one in it.exams if one.task == task]
            before, after = (
                exam.marks(network, it, documents, draws.fold_in(task))
                for network in (base(setting, seed, setting.dial), tuned(setting, seed))
            )
            found[task].append((before.mean().item(), after.mean().item()))
            apart[task].append(difference(before, after))
            if exam.without is not None:
                name, marks = exam.without(documents)
                beside[task].append((name, statistics.fmean(marks)))
                above[task].append(difference(torch.tensor(marks, dtype=torch.float64), after))
    for task, pairs in found.items():
        before, after = ([pair[i] for pair in pairs] for i in (0, 1))
        yield Claim(
            f"tuning on instructions teaches a task: {task}",
            "examples; captions and questions in table 2",
            f"{EXAMS[task].what}: {mean_of(after, 3)}, before tuning {mean_of(before, 3)}{_told(beside[task])}",
            f"{seeds_of(setting.seeds)}; apart by {listed(apart[task])}{_beyond(above[task])}, asked to be three"
            " standard errors",
            verdict(all(one.sure for one in (*apart[task], *above[task]))),
        )
