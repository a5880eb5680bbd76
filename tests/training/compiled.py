"""A short training with a compiled network, as a program without type checks of the tests."""

import pathlib
import sys
from dataclasses import replace

import torch

from feller.core.run_folder import Run
from tests.training.shared import TRAINING, learned, save

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    run = Run(pathlib.Path(sys.argv[1]))
    learner = learned(sys.argv[2], replace(TRAINING, compile=True))
    save(run, learner, writes=True)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    print(type(learner.network).__name__, graphs)
