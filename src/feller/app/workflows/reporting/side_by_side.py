"""Two sets of examples of one kind as pictures that can be compared."""

import torch
from PIL import Image

from feller.data.images.labelled import Labelled
from feller.data.modality import Dataset
from feller.data.molecules.figure import balls
from feller.data.molecules.modality import Molecules
from feller.data.points.points import Points
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.figure import traces
from feller.data.proteins.frames import CA
from feller.data.proteins.modality import Proteins, structures
from feller.data.text.figure import MOST as MAX_TEXTS
from feller.data.text.text_modality import Text


def from_all_over(data: Dataset, number: int) -> Dataset:
    """Return examples from all over the data, as neighbouring windows of a text overlap, sorted by class.

    Of texts, of which a page holds few, no more than it holds: sorted, others would push all but the first class out.
    """
    number = min(number, MAX_TEXTS) if isinstance(data.modality, Text) else number
    label = data.values["label"] if isinstance(data.modality, Labelled) else data.given.get("label")
    rows = torch.arange(number) * len(data) // max(number, 1)
    if label is None:
        return data.subset(rows)
    by_class = label.cpu().argsort(stable=True)
    return data.subset(by_class[rows])  # each class with its share of the data


def side_by_side(first: Dataset, second: Dataset, behind: Dataset | None = None) -> tuple[Image.Image, Image.Image]:
    """Draw two sets of one kind, at one scale where what is drawn has lengths; points have others in grey behind."""
    kind = first.modality
    if isinstance(kind, Proteins):
        return side_by_side(structures(first), structures(second))
    if isinstance(kind, Backbones):
        a, b = ([atoms[:, CA] for atoms in kind.chains(some.values, some.given)] for some in (first, second))
        return traces(a, beside=b), traces(b, beside=a)
    if isinstance(kind, Molecules):
        one, other = (kind.molecules(some.values, some.given) for some in (first, second))
        return balls(one, beside=other), balls(other, beside=one)
    if isinstance(kind, Points):
        return kind.show_beside(first, second, behind), kind.show_beside(second, first, behind)
    return kind.show(first.values, first.given), second.modality.show(second.values, second.given)
