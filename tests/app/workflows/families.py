"""Every family of fits for a few steps, without its report; under a launcher several processes share each."""

import os
import sys

import numpy as np
import torch

from feller.app.cli import main
from feller.app.workflows import bridge, fit, tune
from feller.app.workflows.fitting import data_access
from feller.core.errors import InputError
from feller.data.loading.dataset_reader import read

TINY = ("--size", "tiny", "--steps", "4", "--train.warmup", "1", "--train.batch-size", "13")
BRIDGE = ("bridge", "example:moons", "example:checkerboard", "--rounds", "2", "--pairs", "32", "--train.steps", "3")
REWARD = "def right(x):\n    return x[:, 0]\n"
FAMILIES: dict[str, tuple[str, ...]] = {
    "points": ("fit", "example:moons", *TINY),
    "images": ("fit", "example:digits", *TINY),
    "tokens": ("fit", "example:digits", "--recipe", "levels-mask", *TINY),
    "autoregressive": ("fit", "words.txt", "--recipe", "text-autoregressive", *TINY),
    "table": ("fit", "people.csv", *TINY),
    "found": ("fit", "people.csv", "--recipe", "table-marginals"),
    "manifold": ("fit", "example:volcano", *TINY),
    "product": ("fit", "example:digits", "--recipe", "image-label", *TINY),
    "crystals": ("fit", "crystals.csv", *TINY),
    "regressor": ("fit", "example:digits", "--recipe", "regressor", "--target", "label", *TINY),
    "codebook": ("fit", "example:digits", "--recipe", "image-tokenizer-vq", *TINY),
    "speech": ("fit", "recordings", *TINY[:-1], "4", "--durations.steps", "3", "--duration-sampler.steps", "3"),
    "documents": ("fit", "papers", *TINY[:-1], "4", "--tokenizer.steps", "3", "--vectors.steps", "3"),
    "bridge": (*BRIDGE, "--train.batch-size", "13"),
    "tuned": ("tune", "points", "--reward", "reward.py:right", "--train.steps", "3", "--train.batch-size", "13"),
    "tuned-thinly": ("tune", "points", "--reward", "reward.py:right", "--train.steps", "3", "--rank", "2"),
    "private": ("fit", "people.csv", "--epsilon", "4", "--unsafe-seed", "1", *TINY),
}
SHARDED = ("points", "images", "tokens", "autoregressive", "table", "manifold", "product", "crystals", "tuned-thinly")
"""Families that are also trained in parts."""


def materials(folder):
    """Write what the families learn from."""
    from PIL import Image

    from tests.data.speech.written import pairs

    generator = np.random.default_rng(0)
    (folder / "reward.py").write_text(REWARD)
    (folder / "words.txt").write_text("to be or not to be that is the question " * 60)
    rows = [f"{a},{b}\n" for a, b in zip(generator.integers(0, 9, 200), generator.choice(["x", "y"], 200), strict=True)]
    (folder / "people.csv").write_text("age,kind\n" + "".join(rows))
    crystals = read("example:perovskites").subset(torch.arange(20))
    crystals.modality.write(crystals.values, crystals.given, folder / "crystals.csv")
    pairs(folder / "recordings")
    (folder / "papers").mkdir()
    for i in range(12):
        (folder / "papers" / f"{i}.txt").write_text(f"noise of the number {i}")
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / "papers" / f"{i}.png")


def run_all(families):
    """Fit each, without its report, and return what the command line says of it."""
    fit.evaluate = tune.evaluate = lambda *rest, **others: {}  # pyrefly: ignore
    bridge.report_bridge = lambda *rest, **others: {}  # pyrefly: ignore
    found = {name: main([*words, "--out", name, "--seed", "3"]) for name, words in families.items()}
    sharded = {f"sharded-{name}": (*families[name], "--train.fsdp") for name in SHARDED if name in families}
    return {**found, **{name: main([*words, "--out", name, "--seed", "3"]) for name, words in sharded.items()}}


def fail_at(step, rank):
    """Let one process find its data gone at a step."""
    real = data_access.make_batches

    def feed(*rest):
        batches = real(*rest)

        def batch(at, rows):
            if at == step and os.environ["RANK"] == rank:
                raise InputError("the data of this process are gone")
            return batches(at, rows)

        return batch

    data_access.make_batches = feed  # pyrefly: ignore


if __name__ == "__main__":
    if sys.argv[1] == "fail":
        fail_at(5, sys.argv[2])
        sys.exit(main(["fit", "example:moons", "--size", "tiny", "--steps", "4000", "--out", "failed"]))
    wanted = sys.argv[1:] if sys.argv[1:] != ["all"] else [*FAMILIES]
    statuses = run_all({name: FAMILIES[name] for name in wanted})
    print({name: status for name, status in statuses.items() if status}, flush=True)
