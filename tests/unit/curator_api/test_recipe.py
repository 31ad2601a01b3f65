"""What a recipe may say, and that it says the same in every form."""

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tunemill.cli.dataset_recipe import as_yaml
from tunemill.curator_api import recipe_payloads
from tunemill.curator_api.errors import BadQuery, InvalidRecipe
from tunemill.curator_api.recipe import (
    Cap,
    Decontaminate,
    Filters,
    FromVersion,
    Imported,
    Ingredient,
    Lengths,
    Logs,
    Pairs,
    Recipe,
    Search,
    Weight,
    checked,
    queries,
)
from tunemill.curator_api.recipe_payloads import DatasetIn, DraftIn, RecipeBody, body_of, invalid, recipe_of
from tunemill.streams.marked_yaml import read_marked

SEARCH = Search(query="x")
SEARCH_TREE = {"kind": "search", "query": "x"}
SHARE = st.none() | st.floats(0.01, 0.99)
LIMIT = st.none() | st.integers(1, 1000)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)

ANSWER = st.sampled_from(["logged", "corrected", "corrected_only"])
KEEP = st.dictionaries(TEXT, st.floats(0.01, 1), min_size=1, max_size=2)

INGREDIENTS = st.one_of(
    st.builds(Search, query=TEXT, limit=LIMIT, take=st.sampled_from(["oldest", "random"]), answer=ANSWER),
    st.builds(Pairs, query=TEXT, source=st.just("models"), prefer=TEXT, limit=LIMIT, take=st.just("balanced"), by=TEXT),
    st.builds(Logs, log_ids=st.lists(TEXT, min_size=1, max_size=3).map(tuple)),
    st.builds(Imported, source=st.none() | TEXT),
    st.builds(FromVersion, of=TEXT, share=SHARE),
)  # fmt: skip
FILTERS = st.builds(
    Filters,
    private_data=st.sampled_from(["project", "mask", "pseudonyms", "exclude"]),
    lengths=st.none() | st.builds(Lengths, tokenizer=st.just("smol"), max_tokens=st.integers(1, 9)),
    finish_reasons=st.none() | st.lists(TEXT, min_size=1, max_size=2).map(tuple),
    licence=st.sampled_from(["not_refused", "allowed"]),
    near_duplicates=st.none() | st.floats(0.5, 0.95),
    decontaminate=st.none() | st.builds(Decontaminate, against=st.lists(TEXT, min_size=1, max_size=2).map(tuple)),
)
RECIPES = st.builds(
    Recipe,
    ingredients=st.lists(INGREDIENTS, min_size=1, max_size=4).map(tuple),
    shape=st.sampled_from(["chat", "preference"]),
    filters=FILTERS,
    caps=st.lists(st.builds(Cap, by=TEXT, most=LIMIT, share=SHARE), max_size=2).map(tuple),
    weights=st.lists(st.builds(Weight, by=TEXT, keep=KEEP), max_size=2).map(tuple),
    slices=st.lists(TEXT, max_size=2).map(tuple),
    groups=st.lists(TEXT, max_size=2).map(tuple),
    seed=st.integers(0, 99),
    test_share=st.floats(0, 0.9),
)  # fmt: skip


@settings(max_examples=50)
@given(RECIPES)
def test_a_recipe_is_the_same_in_the_registry_over_http_and_in_yaml(recipe: Recipe) -> None:
    assert msgspec.convert(msgspec.to_builtins(recipe), Recipe) == recipe
    over_http = json.loads(body_of(recipe).model_dump_json())
    assert recipe_of(DraftIn.model_validate(over_http)) == recipe
    draft = {**over_http, "name": "d", "rows": {"edit": {}, "delete": []}}
    assert recipe_of(DatasetIn.model_validate(read_marked(as_yaml(draft), "file").plain())) == recipe


PAIRS = [
    *zip(get_args(Ingredient), ("SearchBody", "PairsBody", "LogsBody", "ImportedBody", "FromVersionBody"), strict=True),
    (Lengths, "LengthsBody"),
    (Decontaminate, "DecontaminateBody"),
    (Filters, "FiltersBody"),
    (Cap, "CapBody"),
    (Weight, "WeightBody"),
    (Recipe, "RecipeBody"),
]


@pytest.mark.parametrize(("struct", "body"), PAIRS)
def test_what_goes_over_http_has_the_fields_and_defaults_of_what_is_kept(struct: Any, body: str) -> None:
    model: type[BaseModel] = getattr(recipe_payloads, body)
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    assert set(model.model_fields) - {"kind"} == set(fields)
    for name, field in fields.items():
        assert model.model_fields[name].is_required() == field.required, name


def test_a_short_draft_is_a_search_with_what_is_imported() -> None:
    given_ = DatasetIn(name="math", query="tag:topic:math", limit=5, seed=3)
    assert recipe_of(given_) == Recipe(ingredients=(Search(query="tag:topic:math", limit=5), Imported()), seed=3)


BALANCED = Search(query="x", take="balanced", limit=3)


@pytest.mark.parametrize(
    ("recipe", "place"),
    [
        (Recipe(ingredients=()), "ingredients"),
        (Recipe(ingredients=(SEARCH, BALANCED)), "ingredients[1].by"),
        (Recipe(ingredients=(Search(query="x", by="app"),)), "ingredients[0].by"),
        (Recipe(ingredients=(Search(query="x", take="balanced", limit=3, by="mood"),)), "ingredients[0].by"),
        (Recipe(ingredients=(Search(query="x", take="newest"),)), "ingredients[0].limit"),
        (Recipe(ingredients=(SEARCH,), shape="preference"), "ingredients[0].kind"),
        (Recipe(ingredients=(Logs(log_ids=("a",)),), shape="preference"), "ingredients[0].kind"),
        (Recipe(ingredients=(Pairs(query="x", source="corrections"),)), "ingredients[0].kind"),
        (Recipe(ingredients=(Pairs(query="x", source="models"),), shape="preference"), "ingredients[0].prefer"),
        (
            Recipe(ingredients=(Pairs(query="x", source="corrections", prefer="x"),), shape="preference"),
            "ingredients[0].prefer",
        ),
        (Recipe(ingredients=(FromVersion(of="../etc"),)), "ingredients[0].of"),
        (Recipe(ingredients=(FromVersion(of="general@v0"),)), "ingredients[0].of"),
        (
            Recipe(ingredients=(SEARCH, FromVersion(of="a@v1", share=0.3), FromVersion(of="b@v1", share=0.7))),
            "ingredients",
        ),
        (Recipe(ingredients=(SEARCH,), filters=Filters(lengths=Lengths(tokenizer="t"))), "filters.lengths"),
        (
            Recipe(ingredients=(SEARCH,), filters=Filters(lengths=Lengths(tokenizer="t", min_tokens=9, max_tokens=2))),
            "filters.lengths.max_tokens",
        ),
        (
            Recipe(ingredients=(SEARCH,), filters=Filters(decontaminate=Decontaminate(against=("a@v1", "b")))),
            "filters.decontaminate.against[1]",
        ),
        (Recipe(ingredients=(SEARCH,), caps=(Cap(by="app"),)), "caps[0]"),
        (Recipe(ingredients=(SEARCH,), caps=(Cap(by="app", most=1, share=0.5),)), "caps[0]"),
        (Recipe(ingredients=(SEARCH,), caps=(Cap(by="meta:", most=1),)), "caps[0].by"),
        (Recipe(ingredients=(SEARCH,), weights=(Weight(by="mood", keep={"glad": 0.5}),)), "weights[0].by"),
        (Recipe(ingredients=(SEARCH,), slices=("app", "mood")), "slices[1]"),
    ],
)
def test_what_cannot_be_followed_is_named_by_its_place(recipe: Recipe, place: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        checked(recipe, lambda _name: None)
    assert caught.value.more["place"] == place
    assert caught.value.detail.startswith(f"{place}: ")


def test_each_query_is_read_and_its_problem_says_in_which_ingredient() -> None:
    recipe = Recipe(ingredients=(SEARCH, Imported(), Search(query="saved:gone")))
    with pytest.raises(BadQuery) as caught:
        checked(recipe, lambda _name: None)
    assert caught.value.more["place"] == "ingredients[2].query"
    assert checked(recipe, lambda name: "x" if name == "gone" else None) == recipe
    assert queries(recipe) == ["x", "saved:gone"]


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"ingredients": [SEARCH_TREE, SEARCH_TREE | {"take": "SECRET"}]}, "ingredients[1].take"),
        ({"ingredients": [SEARCH_TREE | {"limit": 0}]}, "ingredients[0].limit"),
        ({"ingredients": [{"kind": "SECRET"}]}, "ingredients[0]"),
        ({"ingredients": [{"query": "x"}]}, "ingredients[0]"),
        ({"ingredients": [SEARCH_TREE], "filters": {"private_data": "never"}}, "filters.private_data"),
        ({"ingredients": [SEARCH_TREE], "filters": {"near_duplicates": 0.2}}, "filters.near_duplicates"),
        ({"ingredients": [SEARCH_TREE], "filters": {"lengths": {"tokenizer": "../SECRET"}}}, "filters.lengths.tokenizer"),
        ({"ingredients": [SEARCH_TREE], "weights": [{"by": "app", "keep": {"web": 2}}]}, "weights[0].keep.web"),
        ({"ingredients": [SEARCH_TREE], "mood": 1}, "mood"),
        ({"ingredients": [SEARCH_TREE], "test_share": 1}, "test_share"),
        ({}, ""),
        ({"ingredients": [SEARCH_TREE], "query": "x"}, ""),
        ({"ingredients": [SEARCH_TREE], "limit": 3}, ""),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_named_by_its_place_and_never_repeated(tree: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DraftIn.model_validate(tree)
    answer = invalid([{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()])
    assert answer.more["place"] == place
    assert "SECRET" not in f"{answer.detail} {answer.more}"


def test_a_recipe_that_is_shown_says_every_default() -> None:
    shown = body_of(Recipe(ingredients=(SEARCH,))).model_dump()
    assert shown["ingredients"][0]["take"] == "oldest"
    assert (shown["filters"]["licence"], shown["test_share"]) == ("not_refused", 0.1)
    assert set(shown) == set(RecipeBody.model_fields)
