"""Language models of characters on a budget of the processor's time."""

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

WEIGHTS = 2_000_000
MODELS = {"A masked": (text, 2.5), "An autoregressive": (text_autoregressive, 2.3)}
"""Recipes, and the bits per character that are asked of them."""


def language_models(setting: Setting) -> list[Claim]:
    """Bits per character of the recipes for text."""
    texts, found = corpus(setting.data, None), []
    for name, (recipe, most) in MODELS.items():
        claim = f"{name} model of at most {WEIGHTS:,} weights learns characters in 15 minutes of one processor"
        paper = f"no figure at this scale; here at most {most} bits per character"
        if setting.minutes is None:
            found.append(untestable(claim, paper, "takes too long for --quick"))
        elif not texts.standard:
            found.append(untestable(claim, paper, MISSING))
        else:
            model = on_a_budget(recipe(texts.train, "small"), texts.train, setting.minutes, setting.seeds[0])
            found.append(measured(f"{claim}: {texts.name}", paper, model, texts, most))
    return found


def measured(claim: str, paper: str, model: Model, texts: Corpus, most: float) -> Claim:
    """Return how many bits a character of the test part takes."""
    size = sum(weight.numel() for weight in model.network.parameters())
    reached = bits(model.nll(Dataset(texts.test, {}, texts.train.modality)), texts.test.shape[1])
    return Claim(
        claim,
        paper,
        f"{reached} bits, in brackets the standard error; {size:,} weights, {len(texts.test):,} windows of "
        f"{texts.test.shape[1]}",
        "1 seed",
        verdict(reached.mean <= most and size <= WEIGHTS),
    )


def on_a_budget(recipe: Recipe, data: Dataset, minutes: float, seed: int) -> Model:
    """Train until the processor, not the clock, has spent some minutes, over all its cores."""
    begun = time.process_time()

    def count(learner: TrainState) -> None:
        learner.seconds = time.process_time() - begun

    return fit_recipe(replace(recipe, train=replace(recipe.train, minutes=minutes)), data, None, seed, count)
