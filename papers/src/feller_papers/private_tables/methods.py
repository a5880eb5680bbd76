"""What models of tables are compared: recipes, and changes of them that take something away."""

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


def _same(recipe: Recipe) -> Recipe:
    return recipe


@dataclass(frozen=True)
class Way:
    """A recipe, and what is changed about it."""

    name: str
    """What people call it."""
    recipe: str
    change: Callable[[Recipe], Recipe] = _same
    size: str | None = None
    """Of the model, where it is not that of the setting."""

    def of(self, rows: Dataset, setting: Setting) -> Recipe:
        """Return the recipe for a table."""
        recipe = self.change(RECIPES[self.recipe](rows, self.size or setting.size))
        if isinstance(recipe.objective, MarginalFitting):
            return recipe
        train = recipe.train
        steps, batch = setting.steps or train.steps, min(setting.batch or train.batch_size, train.batch_size)
        return replace(recipe, train=replace(train, steps=steps, minutes=None, batch_size=batch))


def counted(method: str, *, degree: int = 2, room: float | None = None) -> Callable[[Recipe], Recipe]:
    """Return what makes a recipe of counts choose its tables otherwise."""

    def change(recipe: Recipe) -> Recipe:
        before = cast(MarginalFitting, recipe.objective)
        return replace(
            recipe,
            objective=replace(
                before, method=method, degree=degree, max_model_size=before.max_model_size if room is None else room
            ),
        )

    return change


def of_columns(recipe: Recipe) -> Recipe:
    """Count single columns alone, and begin with what they tell."""
    return replace(recipe, objective=replace(cast(RowLikelihood, recipe.objective), marginals_budget=0.0))


def any_order(recipe: Recipe) -> Recipe:
    """Learn the columns in every order, so that anything can be given."""
    recipe = of_columns(recipe)
    return replace(recipe, objective=replace(cast(RowLikelihood, recipe.objective), shuffle_prob=1.0))


def without_counts(recipe: Recipe) -> Recipe:
    """Begin with all values of a column alike, instead of with their noisy shares."""
    recipe = of_columns(recipe)
    return _over(recipe, replace(cast(RowLikelihood, recipe.objective).space, value_probs=()))


def without_grammar(recipe: Recipe) -> Recipe:
    """Let every word of the table stand in every column, so that a model must learn which are whose."""
    recipe = of_columns(recipe)
    space = cast(RowLikelihood, recipe.objective).space
    return _over(recipe, TableTokens(tuple(CategoryTokenizer(sum(space.vocab_sizes)) for _ in space.columns), (), ()))


def _over(recipe: Recipe, space: TableTokens) -> Recipe:
    return replace(
        recipe,
        architecture=replace(cast(RowTransformer, recipe.architecture), space=space),
        objective=replace(cast(RowLikelihood, recipe.objective), space=space),
        sampling=replace(recipe.sampling, raking_oversample=0),
    )


ROWS = Way("row model", "table")
"""A language model over rows: what the paper is about."""
FLOW = Way("flow of numbers beside words", "table-flow")
AIM = Way("AIM", "table-marginals")
MST = Way("MST", "table-marginals", counted("mst"))
ALONE = Way("independent columns", "table-marginals", counted("independent"))
COMPARED = (ROWS, FLOW, AIM, MST, ALONE)
"""In every comparison."""
MARGINAL = (AIM, MST)
"""That know tables of few columns alone."""
TRIPLES = Way("AIM of triples", "table-marginals", counted("aim", degree=3, room=8.0))
"""As in the paper's program, but for its memory of 80 MB."""
COLUMNS = Way("row model that counts single columns", "table", of_columns)
SHUFFLED = Way("row model in any order", "table", any_order)
PLAIN = Way("tiny row model that begins with noisy counts", "table", of_columns, "tiny")
UNTOLD = Way("tiny row model that does not", "table", without_counts, "tiny")
LOOSE = Way("tiny row model without a grammar", "table", without_grammar, "tiny")
