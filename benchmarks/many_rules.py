"""Rules of the kinds that people add to the starter set, as many as are wanted: names of products, phrases, codes, fields."""

import itertools
from collections.abc import Iterator
from typing import Any

import yaml

from tunemill.streams.rules import Rules, read_rules, starter_text

_MAKERS = ("Acme", "Globex", "Initech", "Umbrella", "Hooli", "Stark", "Wayne", "Soylent", "Tyrell", "Cyberdyne")
_PRODUCTS = ("Router", "Ledger", "Vault", "Checkout", "Planner", "Atlas", "Beacon", "Courier", "Prism", "Harbor")
_ACTIONS = ("cancel", "upgrade", "downgrade", "renew", "transfer", "refund", "ship", "return", "activate", "merge")
_THINGS = (
    "contract",
    "subscription",
    "licence",
    "delivery",
    "account",
    "warranty",
    "voucher",
    "shipment",
    "policy",
    "seat",
)


def rules_in_all(count: int) -> Rules:
    """The starter set and made-up rules, `count` together; the starter set alone when it has as many."""
    document = yaml.safe_load(starter_text())
    enabled = [rule for rule in document["rules"] if rule.get("enabled", True)]
    document["rules"] = [*enabled, *itertools.islice(_made_up(), max(count - len(enabled), 0))]
    return read_rules(yaml.safe_dump(document, allow_unicode=True))


def _made_up() -> Iterator[dict[str, Any]]:
    """Half of them names, a quarter phrases, a quarter codes and answers."""
    for number, (first, second) in enumerate(itertools.product(range(10), repeat=2)):
        maker, product = _MAKERS[first], _PRODUCTS[second]
        action, thing = _ACTIONS[first], _THINGS[second]
        yield _rule(f"product-{number}", {"in": "text", "literal": [f"{maker} {product}", f"{product} by {maker}"]})
        phrase = rf"(?i)\b(?:{action}|{action}ing)\b[^.?!\n]{{0,40}}\b{thing}s?\b"
        yield _rule(f"intent-{number}", {"in": "user", "regex": phrase})
        yield _rule(f"name-{number}", {"in": "user", "literal": f"{maker.lower()}-{thing}"})
        code = rf"\b{maker[:2].upper()}{product[:2].upper()}-\d{{4,8}}\b"
        yield _rule(f"code-{number}", {"in": "text" if number % 2 else "assistant", "regex": code})


def _rule(name: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"made-up-{name}", "version": 1, "tag": f"made-up:{name}", "any": [condition]}
