"""Claims about character language models with a CPU-time budget."""

import time
from dataclasses import replace

from feller.data.modality import Dataset
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.text import text, text_autoregressive
from feller.training.loop import TrainState
from feller_papers.claims import Claim, untestable, verdict
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.kinetic_optimal.texts import MISSING, Corpus, bits, corpus
from feller_papers.setting import fit_recipe

MAX_PARAMETERS = 2_000_000
MODELS = {"A masked": (text, 2.5), "An autoregressive": (text_autoregressive, 2.3)}
"""Recipes, and the largest bits per character at which the claims hold."""


def language_models(setting: Setting) -> list[Claim]:
    """Return the claims about bits per character of the text recipes."""
    texts, claims = corpus(setting.data, None), []
    for name, (recipe, max_bits) in MODELS.items():
        claim = f"{name} model of at most {MAX_PARAMETERS:,} weights learns characters in 15 minutes of one processor"
        paper = f"no figure at this scale; here at most {max_bits} bits per character"
        if setting.minutes is None:
            claims.append(untestable(claim, paper, "takes too long for --quick"))
        elif not texts.is_text8:
            claims.append(untestable(claim, paper, MISSING))
        else:
            model = train_for_minutes(recipe(texts.train, "small"), texts.train, setting.minutes, setting.seeds[0])
            claims.append(language_model_claim(f"{claim}: {texts.name}", paper, model, texts, max_bits))
    return claims


def language_model_claim(claim: str, paper: str, model: Model, texts: Corpus, max_bits: float) -> Claim:
    """Return the claim about bits per character on the test text."""
    num_parameters = sum(parameter.numel() for parameter in model.network.parameters())
    test_bits = bits(model.nll(Dataset(texts.test, {}, texts.train.modality)), texts.test.shape[1])
    return Claim(
        claim,
        paper,
        f"{test_bits} bits, in brackets the standard error; {num_parameters:,} weights, {len(texts.test):,} windows of "
        f"{texts.test.shape[1]}",
        "1 seed",
        verdict(test_bits.mean <= max_bits and num_parameters <= MAX_PARAMETERS),
    )


def train_for_minutes(recipe: Recipe, data: Dataset, minutes: float, seed: int) -> Model:
    """Return a model trained for a number of CPU-minutes, summed over cores."""
    start = time.process_time()

    def set_seconds(train_state: TrainState) -> None:
        train_state.seconds = time.process_time() - start

    return fit_recipe(replace(recipe, train=replace(recipe.train, minutes=minutes)), data, None, seed, set_seconds)
