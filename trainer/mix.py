"""General rows mixed into the training rows, so that the model keeps what it could do before."""

import random
from typing import Any

from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.recipe import Recipe


def replay_rows(train_rows: int, recipe: Recipe) -> list[dict[str, Any]]:
    """So many general rows that they are `replay_share` of all rows trained on, or all there are; drawn by the seed."""
    if not recipe.replay_share:
        return []
    rows = general_rows("replay", recipe.replay)
    wanted = round(train_rows * recipe.replay_share / (1.0 - recipe.replay_share))
    draw = random.Random(recipe.seed)  # noqa: S311  # a sample, not a secret
    return draw.sample(rows, min(wanted, len(rows)))
