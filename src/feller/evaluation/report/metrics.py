"""Metrics of a report: name, unit, direction, and what real data reach."""

import re
from collections.abc import Mapping
from dataclasses import replace

from feller.evaluation.comparison import TRAINED
from feller.evaluation.report import metrics_of_kinds
from feller.evaluation.report.metrics_of_kinds import HELD_OUT, Measure
from feller.evaluation.report.wording import Number, duration, is_number, number

Numbers = Mapping[str, Number | str | None]
CODES = ("codes", "codes_per_picture")
GUARANTEE = ("epsilon", "delta", "epsilon_pld", "epsilon_rdp", "rows_protected")
FACTS = (
    "steps",
    "seconds",
    "judge",
    "accuracy_guess",
    "compared_with",
    "chance_factor",
    "n",
    "observations",
    "rounds",
    "kept_round",
    *CODES,
    *GUARANTEE,
)
"""What tells of the run, not of its quality."""
SHRUNK = "shrunk to the grid of codes"
MEMBERS = "real members"
CRYSTALS, MOLECULES, CHAINS, UNSEEN = "real crystals", "real molecules", "real chains", "unseen chains"


def _share(label: str, name: str, real: str) -> dict[str, Measure]:
    """Name a share whose floor is called after it."""
    return {name: Measure(label, f"{name}_floor", real, is_share=True)}


def _apart(label: str, name: str, unit: str = "") -> dict[str, Measure]:
    """Name a distance between samples and real data, whose floor is one among real data."""
    return {name: Measure(label, f"{name}_floor", unit=unit)}


def _mean(label: str, name: str, unit: str = "") -> dict[str, Measure]:
    """Name a mean over chains, which is to be as that of real ones."""
    return {name: Measure(label, f"{name}_floor", CHAINS, unit=unit)}


MEASURES = {
    "mae": Measure("mean absolute error", "mae_constant", "always the mean"),
    "r2": Measure("variance explained", is_share=True),
    "reconstruction_mse": Measure("mean square error of copies", "reconstruction_mse_shrunk", SHRUNK),
    "psnr": Measure("signal to error of copies", "psnr_shrunk", SHRUNK, unit="dB"),
    "spectral_error": Measure("difference of spectra of copies", "spectral_error_griffin_lim", "Griffin-Lim"),
    "log_mel_error": Measure("difference of log mels of copies", "log_mel_error_griffin_lim", "Griffin-Lim"),
    "real_time_factor": Measure("seconds for a second of sound", "real_time_factor_griffin_lim", "Griffin-Lim"),
    "codebook_use": Measure("codes in use", is_share=True),
    "codebook_perplexity": Measure("codes that would tell as much, if used equally"),
    "reward": Measure("reward", "reward_before", "before"),
    "bounded": Measure("what the bound is about", "bounded_before", "before"),
    "validity": Measure("valid samples", "validity_before", "before", is_share=True),
    "improved_valid": Measure("valid samples whose reward is larger", is_share=True),
    "reward_tilted": Measure("reward of the law aimed at"),
    "tilted_share": Measure("what the law aimed at has in common with the base", is_share=True),
    "kl": Measure("divergence from the base", unit="nats"),
    "diversity": Measure("diversity", "diversity_before", "before"),
    "improved": Measure("samples that got better", is_share=True),
    "w2": Measure("distance of the end", "w2_floor", MEMBERS),
    "sinkhorn": Measure("Sinkhorn divergence of the end", "sinkhorn_floor", MEMBERS),
    "objective": Measure("cost of the journey", "objective_straight", "plain bridges"),
    "ess": Measure("trajectories that count", is_share=True),
    "lost": Measure("trajectories that ran away", is_share=True),
    "sigma": Measure("noise"),
    "control_cost": Measure("cost of control"),
    "state_cost": Measure("cost of the states on the way"),
    "inside_time": Measure("time inside obstacles", is_share=True),
    "outside_time": Measure("time outside of the surface", is_share=True),
    "inside_paths": Measure("paths that meet an obstacle", is_share=True),
    "last_w2": Measure("distance of the end after the last round, which is not kept"),
    "last_inside_paths": Measure("paths of that round that meet an obstacle", is_share=True),
    "residual": Measure("left unexplained", "residual_before", "any samples"),
    "noise": Measure("noise that was said"),
    "source_size": Measure("size of the sources", real="those that the model knows", level=1.0),
    "accuracy": Measure("read as asked", "judge_accuracy", "real data", is_share=True),
    "accuracy_before": Measure("read as asked before tuning", "judge_accuracy", "real data", is_share=True),
    "auc": Measure("ranked right (area under ROC)"),
    "judge_accuracy": Measure("real data read right", is_share=True),
    "inside": Measure("where the data can be", is_share=True),
    **_apart("FD-cnn", "fd_cnn"),
    **_apart("sliced Wasserstein distance", "sliced_w"),
    **_apart("energy distance", "energy"),
    "chance_factor": Measure("factor by which chance may move the first distance"),
    "distance_ratio": Measure("variety", real="real data", level=1.0),
    "nearest_ratio": Measure("distance to training data", real="unseen real data", level=1.0),
    **_apart("energy distance along the space", "energy_geodesic"),
    **_share("plausible crystals", "crystal_plausible", CRYSTALS),
    **_share("distances like real ones", "distance_valid", CRYSTALS),
    **_share("atoms 0.5 Å apart or more", "structure_valid", CRYSTALS),
    **_share("formulas with usual charges", "composition_valid", CRYSTALS),
    **_share("valid by the rules of CDVAE (0.5 Å, charges)", "crystal_valid", CRYSTALS),
    "readable": Measure("files that read back the same", is_share=True),
    **_share("kinds of real crystals met", "covered", CRYSTALS),
    **_share("samples like a real crystal", "like_real", CRYSTALS),
    **_apart("difference of densities", "density_distance", "g/cm³"),
    **_apart("difference in elements a crystal", "element_number_distance", "elements"),
    **_share("different formulas among plausible ones", "unique_formulas", CRYSTALS),
    **_share("different crystals among plausible ones", "unique_crystals", CRYSTALS),
    **_share("new formulas among plausible ones", "new_formulas", "unseen crystals"),
    **_share("new crystals among plausible ones", "new_crystals", "unseen crystals"),
    **_share("stable atoms", "atom_stability", MOLECULES),
    **_share("stable molecules", "molecule_stability", MOLECULES),
    **_share("molecules in one piece", "connected", MOLECULES),
    **_share("molecules with bonds by the table", "table_validity", MOLECULES),
    **_share("molecules with bonds that fit", "bonds_found", MOLECULES),
    **_share("valid molecules", "bonds_sane", MOLECULES),
    **_share("different molecules", "unique_smiles", MOLECULES),
    **_share("new molecules", "novel_smiles", "unseen molecules"),
    **_apart("difference in atoms a molecule", "atom_number_distance", "atoms"),
    "element_share_distance": Measure("atoms of other elements", "element_share_distance_floor", is_share=True),
    **_apart("difference of bond lengths", "bond_length_distance", "Å"),
    "ramachandran_favoured": Measure("usual torsions", "ramachandran_floor", CHAINS, is_share=True),
    **_mean("bond between residues", "bond_length", "Å"),
    **_mean("spread of that bond", "bond_length_sd", "Å"),
    **_share("usual bonds", "bond_share", CHAINS),
    **_mean("shift of the worst bond angle", "angle_off", "deviations"),
    **_share("usual bond angles", "angle_share", CHAINS),
    **_share("peptide bonds that are trans", "trans_share", CHAINS),
    **_mean("neighbouring CA atoms apart", "ca_distance", "Å"),
    **_share("chains that touch themselves", "clash_share", CHAINS),
    **_mean("radius over that of training data", "radius_ratio"),
    **_share("usual torsions for their residues", "ramachandran_typed", CHAINS),
    **_share("torsions that hardly occur", "ramachandran_outliers", CHAINS),
    **_share("unlike shares of amino acids", "composition_distance", UNSEEN),
    "bigram_perplexity": Measure(
        "amino acids in question, by neighbours", "bigram_perplexity_floor", UNSEEN, unit="of 20"
    ),
    "sequence_perplexity": Measure(
        "amino acids in question, by structure", "bigram_perplexity_floor", "by neighbours", unit="of 20"
    ),
    **_share("glycine where phi is positive", "glycine_left", CHAINS),
    "residue_gain": Measure("what torsions tell of residues", "residue_gain_floor", UNSEEN, unit="nats per residue"),
    "nll": Measure("negative log-likelihood", "nll_baseline", "without a network", unit="nats per example"),
    "bits_per_dimension": Measure("code length", unit="bits per number"),
    "trigram_distance": Measure("unlike triples of characters", "trigram_floor", is_share=True),
    **_share("passages from the training text", "copied", "unseen text"),
    **_share("whole texts from the training data", "copied_whole", "unseen texts"),
    **metrics_of_kinds.TABLE_MEASURES,
    **metrics_of_kinds.ATTACK_MEASURES,
    **metrics_of_kinds.DOCUMENT_MEASURES,
    **metrics_of_kinds.SPEECH_MEASURES,
    "straightness": Measure("straightness", real="a straight line", level=1.0),
    "bits_per_token": Measure("code length", unit="bits per token"),
    "bits_per_token_sampled": Measure("code length along the rates that sample", unit="bits per token"),
}
OF_THE_END, BETWEEN = " of the end", ("w2", "sinkhorn")
"""Numbers of a bridge that, with a time behind their name, are of a population between the first and the last."""
TABLE = "the table has bonds of H, C, N, O and F only"
WITHOUT_PYMATGEN = "pymatgen is not installed"
WITHOUT_RDKIT = "rdkit is not installed"
COPIED = "no sound was copied"
WITHOUT_SMACT = "pymatgen or SMACT is not installed"
NONE_PLAUSIBLE = "no crystal is plausible"
NONE_WHOLE = "no molecule is valid and in one piece"
WHY_MISSING = {
    **dict.fromkeys(("w2", "sinkhorn"), "there are too few members to compare with"),
    **dict.fromkeys(("inside_time", "inside_paths"), "no cost has obstacles"),
    "objective_straight": "plain bridges were not followed",
    **dict.fromkeys(("reward", "reward_before"), "the reward is code of yours, or a model that is gone"),
    "bounded_before": "the wish sets no bound, or one to what may be unknown",
    **dict.fromkeys(("diversity", "diversity_before"), "no class has two samples"),
    "noise": "no noise was named",
    "residual_before": "no other samples were drawn to compare with",
    "mae_constant": "there are no numbers to judge it by",
    "r2": "the true numbers do not vary",
    "reconstruction_mse_shrunk": "there are no pictures to shrink",
    "psnr": "all copies are exact",
    **dict.fromkeys(("spectral_error_griffin_lim", "log_mel_error_griffin_lim"), COPIED),
    "real_time_factor_griffin_lim": COPIED,
    "psnr_shrunk": "shrinking changes none of these pictures",
    "accuracy": "the data have no labels to ask for",
    "auc": "there are examples of one class alone",
    "judge_accuracy": "there are no labelled data that the judge has not seen",
    "nearest_ratio": f"{HELD_OUT}, or most of them are copies of training data",
    "trigram_distance": "the texts have fewer than three characters",
    "copied": "no sample has 24 characters",
    "nll_baseline": "no density without a network suits these data",
    **dict.fromkeys(("composition_valid", "crystal_valid", "crystal_plausible"), WITHOUT_SMACT),
    **dict.fromkeys(
        ("structure_valid", "distance_valid", "readable", "covered", "like_real", "density_distance"), WITHOUT_PYMATGEN
    ),
    **dict.fromkeys(("unique_formulas", "unique_crystals", "new_formulas", "new_crystals"), NONE_PLAUSIBLE),
    **dict.fromkeys(("atom_stability", "molecule_stability"), TABLE),
    **dict.fromkeys(("validity", "validity_before"), "these data have no rule for single samples"),
    "table_validity": f"{TABLE}, or {WITHOUT_RDKIT}",
    **dict.fromkeys(("bonds_found", "bonds_sane"), WITHOUT_RDKIT),
    **dict.fromkeys(("unique_smiles", "novel_smiles"), NONE_WHOLE),
    "bond_length_distance": "the samples have no bonds between elements that are bonded in real molecules",
    **dict.fromkeys(("ramachandran_typed", "ramachandran_outliers", "residue_gain"), "no residue is known"),
    **dict.fromkeys(("composition_distance", "bigram_perplexity"), "no residue is known"),
    "glycine_left": "no residue that is known has a positive phi",
    "sequence_perplexity": "no held-out residue is known, or the model takes no structures as given",
    **metrics_of_kinds.TABLE_WHY_MISSING,
    **metrics_of_kinds.ATTACK_WHY_MISSING,
    **metrics_of_kinds.DOCUMENT_WHY_MISSING,
    **metrics_of_kinds.SPEECH_WHY_MISSING,
    **dict.fromkeys(
        ("nll", "bits_per_dimension", "bits_per_token", "bits_per_token_sampled"),
        "no data are held out that the model could read",
    ),
}


def measure(name: str, numbers: Numbers) -> Measure:
    """Return how a number is to be read, known here or not; a floor is read as what it belongs to."""
    if name == "accuracy" and tells(numbers):
        return Measure("told right", "accuracy_constant", "always the commonest class", is_share=True)
    if name in ("copies", "copies_held_out") and "tv1" in numbers:  # of rows of a table, by their bins
        return (
            metrics_of_kinds.TABLE_MEASURES["copies"]
            if name == "copies"
            else _floor_of(metrics_of_kinds.TABLE_MEASURES["copies"])
        )
    if name in MEASURES:
        return MEASURES[name]
    kind, _, of = name.partition("_")
    if kind in ("mae", "r2") and tells(numbers) and not of.startswith("constant"):
        short = MEASURES[kind]
        return replace(short, label=f"{short.label}, {of}", floor=short.floor and f"{short.floor}_{of}")
    if kind in BETWEEN and of not in ("", "floor"):
        when, short = of.removesuffix("_floor"), MEASURES[kind]
        label = f"{short.label.removesuffix(OF_THE_END)} at time {when}"
        is_floor = of != when
        floor = "" if is_floor else f"{kind}_{when}_floor"
        return replace(short, label=f"{label}, {short.real}" if is_floor else label, floor=floor)
    for kind in MEASURES.values():
        if name == kind.floor:
            return _floor_of(kind)
    floor = f"{name}_floor"
    return Measure(name.replace("_", " "), floor if floor in numbers else "")


def _floor_of(kind: Measure) -> Measure:
    """Return how the number is to be read that real data reach."""
    return replace(kind, label=f"{kind.label}, {kind.real}", floor="")


def tells(numbers: Numbers) -> bool:
    """Tell whether the numbers are of a network that tells of data, instead of drawing some."""
    return any(name.startswith(("mae_constant", "accuracy_constant")) for name in numbers)


def copies(numbers: Numbers) -> bool:
    """Tell whether the numbers are of a network that writes data as codes, instead of drawing some."""
    return "reconstruction_mse" in numbers and not continues(numbers)


def resynthesises(numbers: Numbers) -> bool:
    """Tell whether the numbers are of a vocoder, instead of samples."""
    return "log_mel_error" in numbers


def continues(numbers: Numbers) -> bool:
    """Tell whether the numbers are of a network that continues documents."""
    return "picture_perplexity" in numbers


def speaks(numbers: Numbers) -> bool:
    """Tell whether the numbers are of a model of speech."""
    return "synthesis" in numbers


def joins(numbers: Numbers) -> bool:
    """Tell whether the numbers are of a bridge between populations, instead of samples."""
    return "objective" in numbers


def audits(numbers: Numbers) -> bool:
    """Tell whether the numbers are of an audit, instead of samples."""
    return any(name in numbers for name in metrics_of_kinds.OWN)


def real(kind: Measure, numbers: Numbers) -> str:
    """Say what real data a number stands beside: floors of training data are called so."""
    of_training = kind.floor.endswith("_floor") and numbers.get("compared_with") == TRAINED
    return f"{kind.real}, from the training data" if of_training else kind.real


def leading(numbers: Numbers) -> list[str]:
    """Return the names of the numbers that lead the page: neither facts of the run nor the floor of another."""
    floors = {measure(name, numbers).floor for name in numbers}
    return [
        name
        for name, value in numbers.items()
        if name not in floors
        and name
        not in (*FACTS, *metrics_of_kinds.TABLE_ASIDE, *metrics_of_kinds.ATTACK_ASIDE, *metrics_of_kinds.SPEECH_ASIDE)
        and not isinstance(value, str)
    ]


def why_missing(name: str, numbers: Numbers, reasons: Mapping[str, str]) -> str:
    """Say why a number is not there."""
    if name in reasons:
        return reasons[name].removesuffix(".")
    if numbers.get(name) is not None:
        return "it came out as no finite number, so something diverged"
    if WHY_MISSING.get(name) == NONE_WHOLE and numbers.get("bonds_sane") is None:
        return WITHOUT_RDKIT  # or valid molecules had been counted
    if WHY_MISSING.get(name) == NONE_PLAUSIBLE and numbers.get("crystal_plausible") is None:
        return WITHOUT_SMACT
    if name.endswith("_floor"):
        of = next((one for one, value in numbers.items() if measure(one, numbers).floor == name), "")
        of = of or next((one for one, kind in MEASURES.items() if kind.floor == name), "")
        return WHY_MISSING.get(_kind(of), HELD_OUT) if numbers.get(of, 0) is None else HELD_OUT
    return WHY_MISSING.get(_kind(name), "it was not measured")


def _kind(name: str) -> str:
    """Return the name of a number without the column or the time that it is of."""
    kind = name.partition("_")[0]
    return kind if kind in ("r2", *BETWEEN) else name


def facts(numbers: Numbers) -> str:
    """Say how long the run was."""
    steps, seconds = numbers.get("steps"), numbers.get("seconds")
    parts = [f"{number(round(steps))} steps"] if is_number(steps) and steps else []
    return " in ".join([*parts, duration(seconds)] if is_number(seconds) else parts)


NAMES = re.compile(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b")


def spoken(name: str, numbers: Numbers, explanations: Mapping[str, str]) -> str:
    """Return what a number means, in which others of the report have the names that are seen: labels, not keys.

    Args:
        name: Of the number.
        numbers: All numbers of the report.
        explanations: By the names of the numbers.
    """
    own = measure(name, numbers)

    def seen(match: re.Match[str]) -> str:
        other = match[0]
        if other == own.floor:
            return f'"{real(own, numbers)}"'
        return f'"{measure(other, numbers).label}"' if other in numbers else other

    return NAMES.sub(seen, explanations.get(name, ""))
