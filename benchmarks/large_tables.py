"""CPU time and memory of private fits and samples of a simulated table of 15 columns, by number of rows.

python -m benchmarks.large_tables [ROWS ...] prints a table in Markdown; without numbers, 10,000 to 1,000,000 rows.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd

SIZES = (10_000, 100_000, 1_000_000)
RECIPES = ("table", "table-marginals")
EPSILON = "3"
EDUCATION = np.array(["school", "college", "bachelor", "master", "doctor"])
SECTORS = np.array(["farm", "industry", "trade", "health", "school", "state", "bank", "it", "art"])
CITIES, REGIONS = 80, 12


def simulated(n: int, seed: int = 0) -> pd.DataFrame:
    """Return n rows of numbers, skewed amounts, dates and categories that depend on each other, some missing."""
    rng = np.random.default_rng(seed)
    weights = np.arange(REGIONS, 0, -1.0)
    region = rng.choice(REGIONS, n, p=weights / weights.sum())
    age = np.clip(rng.gamma(9, 5, n), 18, 95).astype(int)
    education = np.clip((rng.normal(size=n) + (age > 25) + region / 8).round(), 0, 4).astype(int)
    sector = (education * 2 + rng.integers(0, 6, n)) % 9
    hours = np.where(rng.random(n) < 0.45, 40, np.clip(rng.normal(36 + education, 9, n), 1, 90).round()).astype(int)
    log_income = 9.3 + 0.25 * education + 0.012 * np.minimum(age, 55) + 0.01 * hours + rng.normal(size=n) * 0.45
    invested = np.where(rng.random(n) < 0.88 - 0.03 * education, 0, np.exp(rng.normal(7, 1.6, n))).round(2)
    is_married = rng.random(n) < _logistic((age - 30) / 7)
    children = np.where(age > 20, rng.poisson(np.where(is_married, 1.6, 0.3)), 0).clip(0, 9)
    hired = np.datetime64("2024-01-01") - rng.gamma(1.5, 700, n).clip(0, 15000).astype(int)
    city = region * CITIES // REGIONS + rng.geometric(0.25, n).clip(1, CITIES // REGIONS) - 1
    is_owner = rng.random(n) < _logistic((log_income - 10.8) * 1.5 - 0.7 * is_married)
    score = np.clip(600 + 60 * is_owner + 20 * education + rng.normal(size=n) * 50, 300, 850).round()
    score[rng.random(n) < 0.06] = np.nan
    device = rng.choice(["phone", "laptop", "tablet", "other"], n, p=[0.55, 0.3, 0.1, 0.05])
    churn = (
        -1.2
        - 0.02 * (age - 40)
        + 0.8 * (device == "phone")
        - 0.004 * (np.nan_to_num(score, nan=600) - 600)
        + 0.5 * (hours > 45)
    )
    return pd.DataFrame(
        {
            "age": age,
            "region": np.char.add("R", (region + 1).astype(str)),
            "city": np.char.add("C", city.astype(str)),
            "education": EDUCATION[education],
            "sector": SECTORS[sector],
            "hours": hours,
            "income": np.exp(log_income).round(2),
            "invested": invested,
            "married": np.where(is_married, "yes", "no"),
            "children": children,
            "hired": pd.to_datetime(hired).strftime("%Y-%m-%d"),
            "score": score,
            "owns": np.where(is_owner, "yes", "no"),
            "device": device,
            "churned": np.where(rng.random(n) < _logistic(churn), "yes", "no"),
        }
    )


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cost(*arguments: str) -> str:
    """Run a command of feller, and return its CPU seconds and peak memory."""
    command = [sys.executable, "-m", "feller", *arguments]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=one_thread) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return f"{usage.ru_utime + usage.ru_stime:.0f} s, {usage.ru_maxrss * 1024 / 1e9:.1f} GB"


def main(sizes: list[int]) -> None:
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            data = pathlib.Path(folder, "data.csv")
            simulated(n).to_csv(data, index=False)
            for recipe in RECIPES:
                run = pathlib.Path(folder, f"{recipe}-{n}")
                fit = cost("fit", str(data), "--epsilon", EPSILON, "--recipe", recipe, "--out", str(run))
                out = str(pathlib.Path(folder, "samples.csv"))
                sample = cost("sample", str(run), "-n", str(n), "--out", out, "--overwrite")
                rows.setdefault(f"private fit, `{recipe}`", []).append(fit)
                rows.setdefault(f"sample, `{recipe}`", []).append(sample)
    print("| | " + " | ".join(f"{n:,} rows" for n in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for name, costs in rows.items():
        print(f"| {name} | " + " | ".join(costs) + " |")


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] or [*SIZES])
