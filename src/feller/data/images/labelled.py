"""Pictures and their labels as one state: both are drawn, or one beside the other."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, State
from feller.data.files import sample_folder
from feller.data.images.modality import Images
from feller.data.labels import class_number, unknown_class
from feller.data.loading.raw import Found
from feller.data.modality import Dataset, Modality, Write
from feller.spaces import MaskSource, Product, Space, Tokens


@dataclass(frozen=True)
class Labelled(Modality):
    """Values and states are `image`, those of the pictures, and `label`, the number of the class, [n]."""

    called = "pictures with their labels"
    has_density = False  # labels have none
    leaves = ("image", "label")
    filed: ClassVar[dict[str, str]] = {"image": "one picture"}

    pictures: Images

    def __post_init__(self) -> None:
        if len(self.pictures.classes) < 2:
            raise InputError(expected="pictures of two classes or more, whose labels could be drawn")

    @property
    def forms(self) -> dict[str, Write]:
        """Those of pictures with labels."""

        def with_label(write: Write) -> Write:
            return lambda values, given, out: write(values["image"], {"label": values["label"]}, out)

        return {ending: with_label(write) for ending, write in self.pictures.forms.items()}

    def give(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Return a label, [1], from the class."""
        if leaf != "label":
            return super().give(leaf, text)
        number = class_number(text, self.pictures.classes)
        if number is None:
            raise unknown_class(UsageError, "label", text, self.pictures.classes)
        return torch.tensor([number]), {}

    def take(self, leaf: str, found: Found) -> tuple[Tensor, dict[str, int]]:
        """Return a picture, [1, c, h, w]."""
        values, _ = self.pictures.accept(replace(found, labels=None))
        if len(values) != 1:
            raise InputError(f"{leaf} names a file with one picture", found=f"one with {len(values)}")
        return self.pictures.encode(values), {}

    def space(self) -> Space:
        """Return that of the pictures, times one token that begins as a mask."""
        return Product({"image": self.pictures.space(), "label": Tokens(len(self.pictures.classes), (), MaskSource())})

    def encode(self, values: State) -> State:
        """Turn levels into states; labels are theirs."""
        return {"image": self.pictures.encode(values["image"]), "label": values["label"]}

    def decode(self, state: State) -> State:
        """Turn states into levels."""
        return {"image": self.pictures.decode(state["image"]), "label": state["label"]}

    def accept(self, found: Found) -> tuple[State, Cond]:
        """Take pictures with their labels, all of which must be known."""
        values, given = self.pictures.accept(found)
        return self._joined(values, given), {}

    def adopt(self, data: Dataset) -> Dataset:
        """Make labels of pictures part of the data."""
        if data.modality.view(Labelled):
            return super().adopt(data)
        return replace(data, values=self._joined(data.values, data.given), given={}, modality=self)

    def decided(self, state: State) -> State:
        """Return symbols and labels that are not decided yet as others."""
        label = state["label"].clamp(max=len(self.pictures.classes) - 1)
        return {"image": self.pictures.decided(state["image"]), "label": label}

    def for_measures(self, data: Dataset) -> Dataset:
        """Return pictures with their labels as a condition again."""
        given = {"label": data.values["label"]}
        return replace(data, values=data.values["image"], given=given, modality=self.pictures)

    def _joined(self, values: Tensor, given: Cond) -> State:
        label = given.get("label")
        if label is None or bool((label >= len(self.pictures.classes)).any()):
            raise InputError(expected="a label of each picture", remedy="Leave out the pictures without one")
        return {"image": values, "label": label}

    def arrays(self, values: State, given: Cond) -> dict[str, np.ndarray]:
        """Return what pictures with labels have."""
        return self.pictures.arrays(values["image"], {"label": values["label"]})

    def show(self, values: Any, given: Cond, columns: int | None = None) -> Image.Image:
        """Lay out the pictures, each above its label."""
        names = [self.pictures.classes[label] for label in values["label"].tolist()]
        return sample_folder.captioned(self.pictures.show(values["image"], {}, columns), names, columns)
