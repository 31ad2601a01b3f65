"""Whether what a model said may be trained on, by the project's table of models. Pure."""

from collections.abc import Mapping

from tunemill.schemas.origin import Trainable

TERMS = "licence:"  # how a name begins that stands for the licence of an imported set


class Licences:
    """The table, and what it says of each name that was asked for."""

    def __init__(self, table: Mapping[str, str]) -> None:
        """
        Args:
            table: yes or no by name; a name that ends in `*` holds for all that begin so.
        """
        self._exact = {name: answer for name, answer in table.items() if not name.endswith("*")}
        begins = {name[:-1]: answer for name, answer in table.items() if name.endswith("*")}
        self._begins = sorted(begins.items(), key=lambda item: -len(item[0]))  # of those that fit the longest holds
        self._known: dict[str, Trainable] = {}

    def of(self, name: str | None) -> Trainable:
        """What holds for a model, or for the licence of a set as `licence:<name>`."""
        if name is None:
            return "unknown"
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def _found(self, name: str) -> Trainable:
        answer = self._exact.get(name) or next((told for begin, told in self._begins if name.startswith(begin)), None)
        return "yes" if answer == "yes" else "no" if answer == "no" else "unknown"


def strictest(one: Trainable, other: Trainable) -> Trainable:
    """What holds for a row that was made of two answers."""
    return next(answer for answer in ("no", "unknown", "yes") if answer in (one, other))
