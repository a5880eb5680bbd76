"""python -m benchmarks.properties NAME FOLDER [SEED ...]: samples whose properties are given, judged by a regressor.

NAME is `qm9` (gap and mu) or `perov` (heat_all); FOLDER holds the molecules or crystals. Three models are fitted:
one with the properties as conditions, one without conditions, and a regressor of each property. Prints one JSON object
per seed: the mean absolute error of the property of the samples, next to the mean absolute deviation of the property of
unconditional samples, and the validity of both sets of samples.
"""

import json
import pathlib
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch

import feller
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.crystal_metrics import crystals_quality
from feller.evaluation.molecule_metrics import molecules_quality
from feller.evaluation.regression_metrics import TrainedRegressor


@dataclass(frozen=True)
class Task:
    """Data set, its properties, and the training time in minutes of models and of regressors."""

    train: str
    test: str
    properties: tuple[str, ...]
    validity: str
    minutes: float
    judge_minutes: float


TASKS = {
    "qm9": Task("train_10000.xyz.gz", "valid_1000.xyz.gz", ("gap", "mu"), "atom_stability", 30, 15),
    "perov": Task("val.csv.gz", "test_first_half.csv.gz", ("heat_all",), "valid", 15, 10),
}
SAMPLES = 500


def measure(task: Task, folder: pathlib.Path, seed: int, scale: float, runs: pathlib.Path) -> dict[str, object]:
    """Return the figures of one seed; `scale` multiplies all training times, and `runs` is the folder of the runs."""
    train, test = folder / task.train, folder / task.test

    def fit(name: str, minutes: float, **options: object) -> feller.FittedRun:
        if (runs / name / "report.json").exists() or (runs / name / "done").exists():
            return feller.load(runs / name)
        run = feller.fit(
            train, minutes=scale * minutes, seed=seed, report=False, out=str(runs / name), overwrite=True, **options
        )
        (runs / name / "done").touch()
        return run

    start = time.process_time()
    given_run = fit("given", task.minutes, condition=[*task.properties])
    free_run = fit("free", task.minutes)
    truth = feller.read(test, condition=[*task.properties])
    chosen = np.random.default_rng(seed).choice(len(truth), SAMPLES)
    wanted = {name: truth.given[name][torch.from_numpy(chosen)].double().numpy() for name in task.properties}
    given = given_run.sample(SAMPLES, given=wanted, seed=seed)
    free = free_run.sample(SAMPLES, seed=seed)
    figures: dict[str, object] = {"seed": seed}
    for name in task.properties:
        judge_run = fit(f"judge-{name}", task.judge_minutes, recipe="regressor", target=name)

        def judged(data: Dataset, judge_run: feller.FittedRun = judge_run) -> np.ndarray:
            return TrainedRegressor(judge_run.model, data.modality).predict(data)[:, 0].numpy()

        own_error = np.abs(judged(truth) - truth.given[name].double().numpy()).mean()
        free_values = judged(free)
        figures[name] = {
            "judge_error": round(float(own_error), 5),
            "spread": round(float(np.abs(free_values - np.median(free_values)).mean()), 5),
            "error": round(float(np.abs(judged(given) - wanted[name]).mean()), 5),
            "error_unconditional": round(float(np.abs(free_values - wanted[name]).mean()), 5),
        }
    quality = molecules_quality if task.validity == "atom_stability" else crystals_quality
    real = feller.read(train)
    for label, samples in (("given", given), ("free", free)):
        metrics = quality(samples, real, truth, Rng(seed))
        figures[label] = {key: value for key, value in metrics.items() if isinstance(value, float)}
    return {**figures, "seconds": round(time.process_time() - start)}


def main() -> None:
    """Run the task named on the command line."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    name, folder, *rest = sys.argv[1:]
    scale = float(next((word.partition("=")[2] for word in rest if word.startswith("scale=")), 1))
    keep = next((word.partition("=")[2] for word in rest if word.startswith("runs=")), None)
    for seed in [int(word) for word in rest if word.isdecimal()] or [0, 1, 2]:
        with tempfile.TemporaryDirectory() as temporary:
            runs = pathlib.Path(keep or temporary) / f"{name}-{seed}"
            runs.mkdir(parents=True, exist_ok=True)
            print(
                json.dumps({"task": name, **measure(TASKS[name], pathlib.Path(folder), seed, scale, runs)}), flush=True
            )


if __name__ == "__main__":
    main()
