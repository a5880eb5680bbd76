"""What the numbers of a report are called, and what real data reach on the same scale."""

from collections.abc import Mapping
from dataclasses import dataclass

from feller.report.wording import MISSING, Number, duration, is_number, number, percent

Numbers = Mapping[str, Number | str | None]
FACTS = ("steps", "seconds", "judge")
"""What tells of the run, not of its quality."""
AGAINST_ITSELF = "real against real"


@dataclass(frozen=True)
class Measure:
    """One number and how to read it."""

    label: str
    floor: str = ""
    """Name of the number that real data reach; empty if there is none."""
    real: str = AGAINST_ITSELF
    """What real data were compared with."""
    level: float | None = None
    """What real data reach by the definition of the number."""
    unit: str = ""
    is_share: bool = False

    def text(self, value: object) -> str:
        """Write a value in the form of this measure."""
        if isinstance(value, str):
            return value
        if not is_number(value):
            return MISSING
        return percent(value) if self.is_share else number(value)


MEASURES = {
    "accuracy": Measure("read as asked", "judge_accuracy", "real data", is_share=True),
    "judge_accuracy": Measure("real data read right", is_share=True),
    "inside": Measure("where the data can be", is_share=True),
    "fd_cnn": Measure("FD-cnn", "fd_cnn_floor"),
    "sliced_w": Measure("sliced Wasserstein distance", "sliced_w_floor"),
    "energy": Measure("energy distance", "energy_floor"),
    "distance_ratio": Measure("variety", real="real data", level=1.0),
    "nearest_ratio": Measure("distance to training data", real="unseen real data", level=1.0),
    "energy_geodesic": Measure("energy distance along the space", "energy_geodesic_floor"),
    "crystal_valid": Measure("possible crystals", "crystal_valid_floor", "real crystals", is_share=True),
    "structure_valid": Measure("possible structures", "structure_valid_floor", "real crystals", is_share=True),
    "composition_valid": Measure("possible formulas", "composition_valid_floor", "real crystals", is_share=True),
    "covered": Measure("kinds of real crystals met", "covered_floor", "real crystals", is_share=True),
    "atom_stability": Measure("stable atoms", "atom_stability_floor", "real molecules", is_share=True),
    "molecule_stability": Measure("stable molecules", "molecule_stability_floor", "real molecules", is_share=True),
    "bonds_sane": Measure("valid molecules", "bonds_sane_floor", "real molecules", is_share=True),
    "unique_smiles": Measure("different molecules", "unique_smiles_floor", "real molecules", is_share=True),
    "novel_smiles": Measure("new molecules", "novel_smiles_floor", "real molecules", is_share=True),
    "ramachandran_favoured": Measure("usual torsions", "ramachandran_floor", "real chains", is_share=True),
    "ramachandran_typed": Measure(
        "usual torsions for their residues", "ramachandran_typed_floor", "real chains", is_share=True
    ),
    "ramachandran_outliers": Measure(
        "torsions that hardly occur", "ramachandran_outliers_floor", "real chains", is_share=True
    ),
    "composition_distance": Measure(
        "unlike shares of amino acids", "composition_distance_floor", "unseen chains", is_share=True
    ),
    "bigram_perplexity": Measure(
        "amino acids in question, by neighbours", "bigram_perplexity_floor", "unseen chains", unit="of 20"
    ),
    "sequence_perplexity": Measure(
        "amino acids in question, by structure", "bigram_perplexity_floor", "by neighbours", unit="of 20"
    ),
    "glycine_left": Measure("glycine where phi is positive", "glycine_left_floor", "real chains", is_share=True),
    "residue_gain": Measure(
        "what torsions tell of residues", "residue_gain_floor", "unseen chains", unit="nats per residue"
    ),
    "nll": Measure("negative log-likelihood", "nll_baseline", "without a network", unit="nats per example"),
    "bits_per_dimension": Measure("code length", unit="bits per number"),
    "trigram_distance": Measure("unlike triples of characters", "trigram_floor", is_share=True),
    "copied": Measure("passages from the training text", "copied_floor", "unseen text", is_share=True),
    "straightness": Measure("straightness", real="a straight line", level=1.0),
    "bits_per_token": Measure("code length", unit="bits per token"),
}
HELD_OUT = "there are no held-out data, or too few"
WHY_MISSING = {
    "accuracy": "the data have no labels to ask for",
    "judge_accuracy": "there are no labelled data that the judge has not seen",
    "nearest_ratio": HELD_OUT,
    "trigram_distance": "the texts have fewer than three characters",
    "copied": "the samples have fewer than 24 characters",
    "nll_baseline": "no density without a network suits these data",
}


def measure(name: str, numbers: Numbers) -> Measure:
    """Return how a number is to be read, known here or not."""
    if name in MEASURES:
        return MEASURES[name]
    floor = f"{name}_floor"
    return Measure(name.replace("_", " "), floor if floor in numbers else "")


def leading(numbers: Numbers) -> list[str]:
    """Return the names of the numbers that lead the page: neither facts of the run nor the floor of another."""
    floors = {measure(name, numbers).floor for name in numbers}
    return [
        name
        for name, value in numbers.items()
        if name not in floors and name not in FACTS and not isinstance(value, str)
    ]


def why_missing(name: str, value: object, reasons: Mapping[str, str]) -> str:
    """Say why a number is not there."""
    if name in reasons:
        return reasons[name].removesuffix(".")
    if value is not None:
        return "it came out as no finite number, so something diverged"
    if name.endswith("_floor"):
        return HELD_OUT
    return WHY_MISSING.get(name, "it was not measured")


def facts(numbers: Numbers) -> str:
    """Say how long the run was."""
    steps, seconds = numbers.get("steps"), numbers.get("seconds")
    parts = [f"{number(round(steps))} steps"] if is_number(steps) else []
    return " in ".join([*parts, duration(seconds)] if is_number(seconds) else parts)
