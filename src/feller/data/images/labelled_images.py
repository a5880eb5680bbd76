"""Images and their labels as a joint state: a model can sample both, labels given images, or images given labels."""

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
from feller.data.loading.raw import RawExamples
from feller.data.modality import Dataset, Modality, Writer
from feller.spaces import MaskSource, Product, Space, Tokens


@dataclass(frozen=True)
class LabelledImages(Modality):
    """Joint modality of images and labels; a state is a dict of `image` and of `label`, class indices [n]."""

    display_name = "images with labels"
    has_density = False  # labels are discrete
    conditionable_leaves = ("image", "label")
    file_conditions: ClassVar[dict[str, str]] = {"image": "one image"}

    images: Images

    def __post_init__(self) -> None:
        if len(self.images.classes) < 2:
            raise InputError(expected="images of at least two classes")

    @property
    def writers(self) -> dict[str, Writer]:

        def with_label(write: Writer) -> Writer:
            return lambda values, given, out: write(values["image"], {"label": values["label"]}, out)

        return {ending: with_label(write) for ending, write in self.images.writers.items()}

    def parse_condition(self, leaf: str, text: str) -> tuple[Tensor, dict[str, int]]:
        """Parse the name of a class that is held fixed during sampling; `leaf` must be `label`.

        Return the class index, [1], and an empty dict, because no further conditions follow from it.
        """
        if leaf != "label":
            return super().parse_condition(leaf, text)
        class_index = class_number(text, self.images.classes)
        if class_index is None:
            raise unknown_class(UsageError, "label", text, self.images.classes)
        return torch.tensor([class_index]), {}

    def load_condition(self, leaf: str, raw: RawExamples) -> tuple[Tensor, dict[str, int]]:
        """Encode the image of a file, `raw`, that is held fixed during sampling; `leaf` is its name in messages.

        Return the encoded image, [1, c, h, w], and an empty dict, because no further conditions follow from it.

        Raises:
            InputError: If the file does not hold exactly one image.
        """
        values, _ = self.images.values_from_raw(replace(raw, labels=None))
        if len(values) != 1:
            raise InputError(expected=f"a file with one image for {leaf!r}", found=f"{len(values)} images")
        return self.images.encode(values), {}

    def space(self) -> Space:
        return Product({"image": self.images.space(), "label": Tokens(len(self.images.classes), (), MaskSource())})

    def encode(self, values: State) -> State:
        return {"image": self.images.encode(values["image"]), "label": values["label"]}

    def decode(self, state: State) -> State:
        return {"image": self.images.decode(state["image"]), "label": state["label"]}

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        values, given = self.images.values_from_raw(raw)
        return self._joined(values, given), {}

    def convert(self, data: Dataset) -> Dataset:
        if data.modality.view(LabelledImages):
            return super().convert(data)
        return replace(data, values=self._joined(data.values, data.given), given={}, modality=self)

    def fill_undecided(self, state: State) -> State:
        label = state["label"].clamp(max=len(self.images.classes) - 1)
        return {"image": self.images.fill_undecided(state["image"]), "label": label}

    def for_metrics(self, data: Dataset) -> Dataset:
        given = {"label": data.values["label"]}
        return replace(data, values=data.values["image"], given=given, modality=self.images)

    def _joined(self, values: Tensor, given: Cond) -> State:
        label = given.get("label")
        if label is None or bool((label >= len(self.images.classes)).any()):
            raise InputError(expected="a label for every image", remedy="Remove the images without a label")
        return {"image": values, "label": label}

    def arrays(self, values: State, given: Cond) -> dict[str, np.ndarray]:
        return self.images.arrays(values["image"], {"label": values["label"]})

    def show(self, values: Any, given: Cond, columns: int | None = None) -> Image.Image:
        names = [self.images.classes[label] for label in values["label"].tolist()]
        return sample_folder.add_captions(self.images.show(values["image"], {}, columns), names, columns)
