"""What a run would be, without running it: the version's rows, the tokenizer and the model's configuration, and no weight."""

from tunemill.trainer.dataset import SHAPES, open_dataset
from tunemill.trainer.identity import find_base
from tunemill.trainer.machine import this_machine
from tunemill.trainer.model import base_folder, load_tokenizer
from tunemill.trainer.plan import Plan, make_plan
from tunemill.trainer.prepare import prepare, render_all
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.shape import shape_of
from tunemill.trainer.template import settle_template


def plan_run(manifest_url: str, digest: str, recipe: Recipe) -> tuple[Plan, dict[str, int]]:
    """The plan of a run on this machine, whether or not it fits, and what becomes of its rows.

    Raises:
        TrainerError: the run would be refused for another reason.
    """
    find_base(recipe.base, recipe.revision)
    folder = base_folder(recipe.base, recipe.revision, weights=False)
    tokenizer = load_tokenizer(folder)
    settle_template(tokenizer, recipe.template)
    raw = render_all(open_dataset(manifest_url, digest, shape=SHAPES[recipe.objective]), recipe, tokenizer)
    plan = make_plan(recipe, raw.facts(), shape_of(folder, recipe), this_machine(precision=recipe.precision))
    return plan, prepare(raw, plan.recipe, tokenizer).counts
