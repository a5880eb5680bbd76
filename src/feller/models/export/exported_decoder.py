"""Exportable decoder of a model whose states are latents of images."""

import torch
from torch import Tensor, nn

from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.models.model import Model

TRACE_BATCH_SIZE = 2
"""Batch size of the example inputs with which the decoder is traced."""


class ExportedDecoder(nn.Module):
    """Decoder of latents to pixel values from 0 to `levels`, neither rounded nor clipped."""

    def __init__(self, model: Model, images: Images) -> None:
        super().__init__()
        self.network = images.code.module
        self.images, self.space = images, model.spec.space

    @property
    def input_names(self) -> list[str]:
        return ["x"]

    @property
    def output_kinds(self) -> dict[str, str]:
        """Kind of the output, by name."""
        return {"answer": "pixels"}

    def inputs(self) -> tuple[Tensor, ...]:
        """Return example latents."""
        return (self.space.sample_base(TRACE_BATCH_SIZE, Rng(0).stream("export")),)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the pixel values of latents, [b, channels, rows, columns]."""
        return (self.images.decode_soft(*tensors),)


def exported_decoder(model: Model) -> ExportedDecoder | None:
    """Return the decoder of a model of latents of images; None for other models."""
    images = model.spec.modality.view(Images)
    if images is None or images.code.module is None:
        return None
    images.code.module.to(torch.device("cpu"))
    return ExportedDecoder(model, images).eval()
