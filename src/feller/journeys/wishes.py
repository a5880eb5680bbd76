"""What a person wishes of a run's samples, from words."""

from collections.abc import Sequence

from torch import Tensor

from feller.control.rewards import Class, Total, image_wishes, wish_of
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.errors import UsageError
from feller.evaluate.judge import Judge, load_judge
from feller.record import nearest
from feller.run import Run


def wish(run: Run, modality: Modality, texts: Sequence[str]) -> Total:
    """Return the sum of what is wished for.

    Raises:
        UsageError: If a wish cannot be read, or does not suit the data.
        InputError: If a file of the user's own does not run.
    """
    named = image_wishes(modality)
    if isinstance(modality, Images) and modality.classes:
        named["class"] = lambda words: _class(run, modality, words)
    return wish_of(texts, named)


def _class(run: Run, modality: Images, words: str) -> Class:
    """Return how sure the run's judge is that a picture is of one of some classes."""
    names = words.split(",")
    for name in names:
        if name not in modality.classes:
            raise UsageError(f"class cannot be {name!r}: {nearest(name, list(modality.classes))}")
    if not run.judge.is_file():
        raise UsageError(f"{run.path} has no judge to tell classes; make one with: feller evaluate {run.path}")
    judge = load_judge(run.judge)
    if judge.target != "label":
        raise UsageError(f"the judge of {run.path} tells no classes, since the data had none")
    return Class(_Logits(judge), tuple(modality.classes.index(name) for name in names))


class _Logits:
    """What a judge answers about levels that need not be whole."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def __call__(self, values: Tensor) -> Tensor:
        weight = self.judge.network.answer.weight
        if weight.device != values.device:
            self.judge.network.to(values.device)
        modality = self.judge.modality
        return self.judge.network(modality.code.encode(values.to(weight.dtype), modality.levels))
