"""Compared methods: recipes for tables, and ablations of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.registry import RECIPES
from feller.networks.sequence.row_transformer import RowTransformer
from feller.spaces import TableTokens
from feller.spaces.table_tokens import CategoryTokenizer
from feller.training.objectives.marginal_fitting import MarginalFitting
from feller.training.objectives.next_token_prediction import RowLikelihood
from feller_papers.private_tables.setting import Setting


def _unchanged(recipe: Recipe) -> Recipe:
    return recipe


@dataclass(frozen=True)
class Method:
    """A recipe with a change."""

    name: str
    """Name in claims."""
    recipe: str
    """Name of the recipe."""
    change: Callable[[Recipe], Recipe] = _unchanged
    size: str | None = None
    """Model size; None for that of the setting."""

    def build_recipe(self, rows: Dataset, setting: Setting) -> Recipe:
        """Return the recipe for a table."""
        recipe = self.change(RECIPES[self.recipe](rows, self.size or setting.size))
        if isinstance(recipe.objective, MarginalFitting):
            return recipe
        train = recipe.train
        steps, batch = setting.steps or train.steps, min(setting.batch or train.batch_size, train.batch_size)
        return replace(recipe, train=replace(train, steps=steps, minutes=None, batch_size=batch))


def with_marginals(method: str, *, degree: int = 2, max_model_size: float | None = None) -> Callable[[Recipe], Recipe]:
    """Return a change of the marginals that a recipe of noisy marginals selects."""

    def change(recipe: Recipe) -> Recipe:
        objective = cast(MarginalFitting, recipe.objective)
        size = objective.max_model_size if max_model_size is None else max_model_size
        return replace(recipe, objective=replace(objective, method=method, degree=degree, max_model_size=size))

    return change


def one_way_marginals(recipe: Recipe) -> Recipe:
    """Return a recipe that measures one-way marginals only, without pretraining, in the column order of the table."""
    objective = cast(RowLikelihood, recipe.objective)
    return replace(recipe, objective=replace(objective, marginals_budget=0.0, shuffle_prob=0.0))


def shuffle_columns(recipe: Recipe) -> Recipe:
    """Return a recipe that trains on random column orders."""
    recipe = one_way_marginals(recipe)
    return replace(recipe, objective=replace(cast(RowLikelihood, recipe.objective), shuffle_prob=1.0))


def without_marginals(recipe: Recipe) -> Recipe:
    """Return a recipe whose initial distribution of each column is uniform, not the noisy marginal."""
    recipe = one_way_marginals(recipe)
    return _with_space(recipe, replace(cast(RowLikelihood, recipe.objective).space, value_probs=()))


def without_mask(recipe: Recipe) -> Recipe:
    """Return a recipe without the mask of tokens that cannot occur in a column."""
    recipe = one_way_marginals(recipe)
    space = cast(RowLikelihood, recipe.objective).space
    return _with_space(
        recipe, TableTokens(tuple(CategoryTokenizer(sum(space.vocab_sizes)) for _ in space.columns), (), ())
    )


def _with_space(recipe: Recipe, space: TableTokens) -> Recipe:
    return replace(
        recipe,
        architecture=replace(cast(RowTransformer, recipe.architecture), space=space),
        objective=replace(cast(RowLikelihood, recipe.objective), space=space),
        sampling=replace(recipe.sampling, raking_oversample=0),
    )


ROW_MODEL = Method("row model", "table")
"""Language model over rows, the subject of the paper."""
FLOW = Method("flow of numbers beside words", "table-flow")
AIM = Method("AIM", "table-marginals")
MST = Method("MST", "table-marginals", with_marginals("mst"))
INDEPENDENT = Method("independent columns", "table-marginals", with_marginals("independent"))
METHODS = (ROW_MODEL, FLOW, AIM, MST, INDEPENDENT)
"""Methods of all comparisons."""
MARGINAL_METHODS = (AIM, MST)
"""Methods that fit noisy marginals."""
AIM_TRIPLES = Method("AIM of triples", "table-marginals", with_marginals("aim", degree=3, max_model_size=8.0))
"""AIM of the paper's program, with 8 MiB instead of 80 MB."""
ONE_WAY = Method("row model that counts single columns", "table", one_way_marginals)
SHUFFLED = Method("row model in any order", "table", shuffle_columns)
TINY_ONE_WAY = Method("tiny row model that begins with noisy counts", "table", one_way_marginals, "tiny")
TINY_NO_MARGINALS = Method("tiny row model that does not", "table", without_marginals, "tiny")
TINY_NO_MASK = Method("tiny row model without a grammar", "table", without_mask, "tiny")
