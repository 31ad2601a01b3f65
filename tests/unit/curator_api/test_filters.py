"""What keeps a row out by itself, and what becomes of it before: private data, licences, runs of words, sides of pairs."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import tagged
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.contamination import Contamination
from tunemill.curator_api.errors import InvalidRecipe
from tunemill.curator_api.filters import Candidate, Sieve
from tunemill.curator_api.licences import Licences, strictest
from tunemill.curator_api.pairs import Prompt, Scored, pair, prompt_of, with_answer
from tunemill.curator_api.recipe import Filters, Recipe, Search, slice_names
from tunemill.curator_api.rows import Changes, Left, Reason, Row, RowEdit, RowMessage, from_log
from tunemill.curator_api.seen import Seen
from tunemill.curator_api.tokens import check_known
from tunemill.privacy.pii import PrivateData
from tunemill.schemas.records import Message, Tag, TaggedLog, ToolCall

MAIL = "a@b.org"


def sieve(policy: PrivateData = "snapshot", changes: Changes | None = None, **recipe: Any) -> Sieve:
    made = Recipe(ingredients=(Search(query=""),), **recipe)
    return Sieve(
        recipe=made,
        names=slice_names(made),
        changes=changes or Changes(),
        default_consent="none",
        policy=policy,
        licences=Licences({}),
    )


def made(log: TaggedLog, **fields: Any) -> Row:
    row = from_log(log, default_consent="none")
    assert isinstance(row, Row)
    return msgspec.structs.replace(row, **fields)


def outcome(wanted: Sieve, log: TaggedLog) -> Row | Left:
    return wanted.sift([wanted.log(log, ingredient=0)])[0]


def said(result: Row | Left) -> str:
    assert isinstance(result, Row), result
    return str(result.messages[0].content)


@pytest.mark.parametrize("policy", ["ingest", "snapshot", "never"])
@pytest.mark.parametrize("wanted", ["project", "mask", "pseudonyms", "exclude"])
def test_a_recipe_is_at_least_as_strict_as_the_project(policy: PrivateData, wanted: Any) -> None:
    result = outcome(sieve(policy, filters=Filters(private_data=wanted)), tagged("a", MAIL))
    if wanted == "exclude":
        assert isinstance(result, Left) and result.reason is Reason.PRIVATE
    elif policy == "never" and wanted == "project":
        assert said(result) == MAIL
    else:
        assert said(result) == ("[PII:email-1]" if wanted == "pseudonyms" else "[PII:email]")
        assert isinstance(result, Row) and result.masked == ("email",)


def test_what_a_person_says_is_none_stays_and_what_edits_bring_is_replaced() -> None:
    looked_at = msgspec.structs.replace(tagged("a", f"{MAIL} 192.0.2.7"), removed=("pii:email",))
    assert said(outcome(sieve(), looked_at)) == f"{MAIL} [PII:ip]"
    edit = RowEdit((RowMessage(role="user", content=MAIL), RowMessage(role="assistant", content="so")))
    edited = sieve(changes=Changes(edits={"a": edit}))
    assert said(outcome(edited, tagged("a"))) == "[PII:email]"
    assert said(edited.row(made(tagged("b"), row_key="a"))) == "[PII:email]"


@given(
    st.lists(st.sampled_from(["a@b.org", "A@B.ORG", "c@d.org", "192.0.2.7", "198.51.100.9"]), min_size=1, max_size=6)
)
@settings(max_examples=50)
def test_pseudonyms_tell_values_of_a_kind_from_one_another_and_nothing_else(values: list[str]) -> None:
    log = tagged("a", " and ".join(values[:3]), " or ".join(values[3:]) or "none")
    row = outcome(sieve(filters=Filters(private_data="pseudonyms")), log)
    assert isinstance(row, Row)
    labels = " and ".join(str(message.content) for message in row.messages).replace(" or ", " and ").split(" and ")
    pairs = list(zip(values, labels, strict=False))
    assert all((one.lower() == other.lower()) == (left == right) for one, left in pairs for other, right in pairs)
    assert {label.rstrip("]").rpartition("-")[2] for _, label in pairs if "email" in label} <= {"1", "2"}


@given(st.permutations(range(12)))
@settings(max_examples=20)
def test_values_are_numbered_alike_in_whatever_order_rows_are_read(order: list[int]) -> None:
    rows = [
        made(
            tagged(
                f"{number:02}",
                f"To u{number % 5}@x.org, u{number % 3}@x.org",
                session_id=f"s{number % 2}",
                ts_ms=number // 4,
            )
        )
        for number in range(12)
    ]

    def numbered(rows: list[Row]) -> dict[str, Row | Left]:
        these = sieve(filters=Filters(private_data="pseudonyms"))
        these.sift([Candidate(row) for row in rows])
        these.numbering.settle()
        return {one.row_key: one for one in these.sift([Candidate(row) for row in rows])}

    assert numbered([rows[at] for at in order]) == numbered(rows)


def test_private_data_is_replaced_in_the_worse_answer_and_in_calls_too() -> None:
    call = ToolCall(name="mail", arguments=f'{{"to": "{MAIL}"}}')
    row = made(tagged("a"), rejected=(RowMessage(role="assistant", content=MAIL, tool_calls=(call,)),))
    (result,) = sieve(filters=Filters(private_data="pseudonyms"), shape="preference").sift([Candidate(row)])
    assert isinstance(result, Row)
    assert result.rejected[0].content == "[PII:email-1]"
    assert result.rejected[0].tool_calls[0].arguments == '{"to": "[PII:email-1]"}'


def test_erased_logs_take_the_rows_along_that_were_made_of_them() -> None:
    row = made(tagged("a"), log_ids=("a", "b"))
    for erased, reason in (({"b"}, Reason.ERASED), ({"a"}, Reason.ERASED), ({"c"}, None)):
        result = sieve(changes=Changes(erased=frozenset(erased))).row(row)
        assert (result.reason if isinstance(result, Left) else None) is reason
    result = sieve(changes=Changes(deleted=frozenset({"a"}))).row(row)
    assert isinstance(result, Left) and result.reason is Reason.DELETED_BY_PERSON


def test_what_is_left_out_is_counted_by_the_slices_that_a_row_would_have_had() -> None:
    recipe = {"slices": ("app", "topic", "length", "language"), "groups": ("age",)}
    log = tagged("a", "x" * 300, app="web", metadata={"age": "old"}, tags=("topic:math", "topic:algebra"))
    row = outcome(sieve(**recipe), log)
    left = outcome(sieve(**recipe), msgspec.structs.replace(log, consent="none"))
    assert isinstance(row, Row) and isinstance(left, Left)
    wanted = {"app": "web", "topic": "algebra", "length": "<1000", "language": "en", "meta:age": "old"}
    assert row.slices == left.slices == wanted
    other = outcome(sieve(**recipe), msgspec.structs.replace(log, log=msgspec.structs.replace(log.log, app=None)))
    assert isinstance(other, Row) and other.slices == {**wanted, "app": "none"}


WHAT = st.fixed_dictionaries(
    {
        "app": st.sampled_from([None, "web", "bot"]),
        "model": st.sampled_from(["m", "n"]),
        "finish_reason": st.sampled_from(["stop", None]),
        "language": st.sampled_from(["en", "de"]),
        "tags": st.sampled_from([("topic:a",), ("topic:b",), ()]),
        "answer": st.sampled_from(["4", "4" * 500]),
        "metadata": st.sampled_from([{}, {"age": "old"}, {"age": "new", "other": "x"}]),
    }
)


@given(st.lists(WHAT, min_size=2, max_size=8))
@settings(max_examples=60)
def test_the_slices_of_a_log_do_not_depend_on_the_logs_before_it(logs: list[dict[str, Any]]) -> None:
    recipe = {"slices": ("app", "model", "finish", "language", "topic", "length"), "groups": ("age",)}
    one = sieve(**recipe)
    for number, what in enumerate(logs):
        log = tagged(str(number), **what)
        first, alone = outcome(one, log), outcome(sieve(**recipe), log)
        assert isinstance(first, Row) and isinstance(alone, Row)
        assert first.slices == alone.slices


def test_a_row_of_a_version_keeps_its_slices_and_an_edit_changes_its_length() -> None:
    row = made(tagged("a"), slices={"meta:age": "old", "length": ">=4000"})
    wanted = sieve(groups=("age",), slices=("length", "language"))
    kept = wanted.row(row)
    assert isinstance(kept, Row) and kept.slices == {"length": ">=4000", "language": "en", "meta:age": "old"}
    edited = wanted.row(row, RowEdit(row.messages))
    assert isinstance(edited, Row) and edited.edited and edited.slices["length"] == "<200"


def test_private_data_is_replaced_in_the_values_of_slices_too() -> None:
    log, looked_by = tagged("a", metadata={"team": MAIL}), {"groups": ("team",)}
    row = made(log, slices={"meta:team": MAIL})
    for policy, shown in (("snapshot", "[PII:email]"), ("never", MAIL)):
        result = sieve(policy, **looked_by)
        for found in (
            outcome(result, log),
            result.row(row),
            outcome(result, msgspec.structs.replace(log, consent="no")),
        ):
            assert found.slices["meta:team"] == shown


def test_an_edit_of_a_pair_without_the_worse_answer_keeps_it_and_one_that_is_no_row_is_left_out() -> None:
    worse = (RowMessage(role="assistant", content="5"),)
    row = made(tagged("a"), rejected=worse)
    kept = sieve(shape="preference").row(row, RowEdit((RowMessage(role="user", content="?"), row.messages[-1])))
    assert isinstance(kept, Row) and kept.rejected == worse
    silent = sieve(shape="preference").row(row, RowEdit((RowMessage(role="user", content="?"),)))
    assert isinstance(silent, Left) and silent.reason is Reason.NO_ANSWER


@given(
    st.dictionaries(st.text("ab", max_size=3).map(lambda name: name + "*"), st.sampled_from(["yes", "no"])),
    st.text("ab", max_size=4),
)
@settings(max_examples=100)  # fmt: skip
def test_of_the_names_that_fit_a_model_the_longest_decides(table: dict[str, str], model: str) -> None:
    fitting = sorted((name for name in table if model.startswith(name[:-1])), key=len)
    wanted = table[fitting[-1]] if fitting else "unknown"
    found = Licences(table)
    assert found.of(model) == found.of(model) == wanted
    assert Licences({**table, model: "no"}).of(model) == "no"


def test_a_row_of_two_answers_is_as_free_as_the_stricter() -> None:
    assert [strictest("yes", other) for other in ("yes", "unknown", "no")] == ["yes", "unknown", "no"]  # type: ignore[arg-type]
    assert strictest("no", "unknown") == "no"


@pytest.mark.parametrize("name", ["..", "t/..", ""])
def test_a_tokenizer_has_a_name_and_never_a_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "tokenizers" / "t").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "tokenizers"):
        (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidRecipe, match="there is no tokenizer"):
        check_known(tmp_path / "tokenizers", name)


def test_imported_rows_go_by_the_licence_of_their_set() -> None:
    row = made(tagged("a"), log_id=None, model=None, terms="proprietary")
    result = dataclasses.replace(sieve(), licences=Licences({"licence:prop*": "no"})).row(row)
    assert isinstance(result, Left) and result.reason is Reason.LICENCE


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_a_run_of_words_is_found_wherever_it_stands_and_nothing_else_is(seed: int) -> None:
    draw = random.Random(seed)
    words, length = [f"w{number}" for number in range(6)], draw.randint(5, 7)

    def text(most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(1, most)))

    exam = [made(tagged(f"e{n}", text(12), text(12))) for n in range(draw.randint(0, 3))]
    rows = [made(tagged(f"r{n}", text(15), text(15))) for n in range(5)]
    known: set[tuple[str, ...]] = set()
    for row in exam:
        for place, message in enumerate(row.messages):
            known |= runs(str(message.content), length, counts_short=place == 0)
    wanted = [
        any(runs(str(m.content), length, counts_short=not i) & known for i, m in enumerate(row.messages))
        for row in rows
    ]
    assert Contamination([exam[:1], exam[1:]], words=length).holds(rows) == wanted


def runs(text: str, length: int, *, counts_short: bool) -> set[tuple[str, ...]]:
    words = text.split()
    if len(words) < length:
        return {tuple(words)} if counts_short else set()
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}


@pytest.mark.parametrize(
    "asked",
    ["小明有五个苹果，他又买了三个苹果，现在一共有几个？", "りんごが五つあります。三つ買うと全部でいくつですか。"],
)
def test_where_words_are_not_set_apart_each_character_is_one(asked: str) -> None:
    against = Contamination([[made(tagged("a", asked))]], words=13)
    rows = [f"x{asked}y", f"{asked[:12]}!", asked.replace("，", " , "), asked[3:]]
    assert against.holds([made(tagged("b", one, "5")) for one in rows]) == [True, False, True, True]


def test_system_prompts_are_no_repetition_and_the_worse_answer_is_looked_at() -> None:
    long = " ".join(f"word{number}" for number in range(20))
    prompted = tagged(
        "a", messages=(Message(role="system", content=long), Message(role="user", content="Hm, and why?"))
    )
    exam = Contamination([[made(prompted)]], words=13)
    assert exam.holds([made(prompted), made(tagged("b", long))]) == [True, False]  # the same question
    answered = Contamination([[made(tagged("c", "Tell", long))]], words=13)
    worse = made(tagged("d"), rejected=(RowMessage(role="assistant", content=f"Well: {long}"),))
    assert answered.holds([worse, made(tagged("e"))]) == [True, False]
    assert Contamination([], words=13).holds([worse]) == [False]


@given(
    st.permutations([Scored(score, f"l{number}", {}) for number, score in enumerate((0.1, 0.5, 0.5, 0.9, 0.9, 0.1))])
)
def test_the_best_and_the_worst_answer_are_the_same_in_every_order_and_the_others_are_named_once(
    answers: list[Scored],
) -> None:
    prompt: Prompt | None = None
    gone: list[str] = []
    for answer in answers:
        prompt, more = with_answer(prompt, answer)
        gone += [one.log_id for one in more]
    assert prompt == Prompt(Scored(0.9, "l3", {}), Scored(0.1, "l5", {}))
    assert sorted(gone) == ["l0", "l1", "l2", "l4"]


def test_a_prompt_is_what_was_asked_with_which_tools() -> None:
    one = prompt_of(made(tagged("a", answer="x")))
    assert one == prompt_of(made(tagged("b", answer="y", session_id="s")))
    assert one != prompt_of(made(tagged("b", "Why?")))
    assert one != prompt_of(made(tagged("b", tools=[{"name": "add"}])))


def test_two_answers_that_say_the_same_are_no_pair() -> None:
    row = made(tagged("a"), licence="yes")
    assert pair(row, row.messages[-1:]) is Reason.DUPLICATE_CONTENT
    worse = (RowMessage(role="assistant", content="5"),)
    found = pair(row, worse, licence="unknown", log_id="b")
    assert isinstance(found, Row)
    assert (found.rejected, found.log_ids, found.licence) == (worse, ("a", "b"), "unknown")


@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.booleans(), max_size=6), min_size=1, max_size=4), st.data()
)
def test_each_key_is_fresh_until_an_ingredient_has_a_row_of_it_and_is_left_out_once(
    ingredients: list[dict[str, bool]], data: st.DataObject
) -> None:
    seen, taken, left = Seen(ingredients=len(ingredients) - 1), set[str](), set[str]()
    for gives in ingredients:
        keys = list(gives)
        fresh = [is_fresh for some in (keys[:2], keys[2:]) for is_fresh in seen.fresh(some)]
        assert fresh == [key not in taken for key in keys]
        page = [made(tagged(key)) if gives[key] else Left(key, Reason.NO_PAIR, {}) for key in keys]
        page = data.draw(st.permutations(page))
        assert seen.counted(page) == [one for one in page if isinstance(one, Row) or one.row_key not in left]
        taken |= {key for key in keys if gives[key]}
        left |= {key for key in keys if not gives[key]}
        seen.next_ingredient()


def test_a_tag_that_a_detector_set_keeps_no_row_out_and_one_of_anybody_else_does() -> None:
    by_pattern = msgspec.structs.replace(tagged("a"), tags=(Tag("pii:email", "pii@3"),))
    assert isinstance(outcome(sieve(), by_pattern), Row)
    by_person = msgspec.structs.replace(tagged("a"), tags=(Tag("pii:email", "person:ann"),))
    left = outcome(sieve(), by_person)
    assert isinstance(left, Left) and left.reason is Reason.PII
    assert isinstance(outcome(sieve("never"), by_person), Row)
