"""The rules in force, which may change while a worker runs: each batch is worked on with one state of them."""

from tunemill.streams.rules import Rules


class Rulebook:
    """What tags are set by now."""

    def __init__(self, rules: Rules, *, revision: int = 0) -> None:
        self.rules = rules  # replaced as a whole, never changed
        self.revision = revision  # 0: the starter set, because the project has none of its own
