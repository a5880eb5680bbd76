"""Draws discrete.png: a digit along three discrete paths, and samples of the three models.

Needs the runs runs/mask, runs/uniform and runs/metric of docs/concepts/discrete.md.
"""

import pathlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import feller
from feller.sampling import trajectory

COLUMNS = 9
LEVELS = 16
MASK_COLOUR = torch.tensor([70, 110, 180])


def path_states(model: feller.Model, rng: feller.Rng) -> Tensor:
    """Return a noised digit and two samples over time, [3, columns, 8, 8]."""
    spec, data = model.spec, feller.read("example:digits")
    x_1 = data.values[data.given["label"] == 0][:1].long()
    source = spec.space.sample_base(2, rng.stream("source"))
    shown = torch.linspace(0, 1, COLUMNS, dtype=torch.float64)
    noised = torch.cat([spec.path.sample(source[:1], x_1, t[None], rng.stream("noise")) for t in shown])
    path, solver, times = spec.sampling.resolve(spec.path, spec.space)
    process = path.process(model.network.eval(), {"label": torch.tensor([3, 4])})
    with torch.no_grad():
        states = [source, *trajectory(process, source, times, solver, rng)]
    samples = torch.stack([states[round(i * (len(states) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)], 1)
    return torch.cat([noised[None], samples])[:, :, 0]


def colours(tokens: Tensor) -> Tensor:
    """Return levels in grey, and the mask token in blue."""
    grey = (tokens.clamp(max=LEVELS) * 255 // LEVELS)[..., None].expand(*tokens.shape, 3)
    return torch.where(tokens[..., None] > LEVELS, MASK_COLOUR, grey)


if __name__ == "__main__":
    rows = []
    for name in ("mask", "uniform", "metric"):
        images = colours(path_states(feller.load_model(feller.open_run(f"runs/{name}")), feller.Rng(0)))
        framed = torch.nn.functional.pad(images, (0, 0, 0, 1, 0, 1), value=255)  # [3, columns, 9, 9, 3]
        rows += [framed.transpose(1, 2).flatten(2, 3).flatten(0, 1), torch.full((2, 81, 3), 255)]
    image = Image.fromarray(np.uint8(torch.cat(rows))).resize((81 * 8, 87 * 8), Image.Resampling.NEAREST)
    image.save(pathlib.Path(__file__).with_name("discrete.png"))
