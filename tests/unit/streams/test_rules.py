"""What a rule means, and what is said about one that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.schemas.records import LogRecord, Message, ToolCall
from tunemill.streams.errors import RulesInvalid
from tunemill.streams.rules import Rules, load_rules
from tunemill.streams.text import texts_of

LOG = LogRecord(
    log_id="one",
    ts_ms=1,
    messages=(
        Message(role="developer", content="You are a tutor."),
        Message(role="user", content="Where is my REFUND?\nOrder 12 (urgent)"),
        Message(role="assistant", content="earlier answer"),
        Message(role="tool", content="tool result"),
    ),
    output=(
        Message(
            role="assistant", content="It is on its way.", tool_calls=(ToolCall(name="f", arguments='{"sum": 12}'),)
        ),
    ),
    finish_reason="length",
    tools=[{"type": "function"}],
)


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    return tmp_path / "rules.yaml"


def load(path: Path, *rules: str) -> Rules:
    path.write_text("rules:\n" + "\n".join(f"  - {rule}" for rule in rules), encoding="utf-8")
    return load_rules(path)


def matches(path: Path, conditions: str, log: LogRecord = LOG) -> bool:
    rules = load(path, f"{{name: r, version: 1, tag: 'x:y', {conditions}}}")
    return [rule.setter for rule in rules.find(log, texts_of(log)).rules] == ["r@1"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ("any: [{in: user, literal: refund}]", True),
        ("any: [{in: assistant, literal: refund}]", False),
        ("any: [{in: text, literal: refund}]", True),
        ("any: [{in: user, literal: fund}]", False),  # whole words
        ("any: [{in: user, literal: '(urgent)'}]", True),  # not a regex
        ("any: [{in: user, literal: 'urgent.'}]", False),
        ("any: [{in: user, literal: [nothing, order 12]}]", True),
        ("any: [{in: system, literal: tutor}]", True),
        ("any: [{in: text, literal: tool result}]", True),
        ("any: [{in: text, literal: earlier answer}]", True),
        ("any: [{in: assistant, literal: earlier answer}]", False),  # the answers only
        ("any: [{in: text, regex: 'sum.: 12'}]", True),  # a tool's arguments
        ("any: [{in: user, regex: 'refund'}]", False),  # case counts in a regex
        ("any: [{in: user, regex: '(?i)refund'}]", True),
        ("any: [{in: user, regex: ['zzz', '^Where']}]", True),
        ("any: [{in: user, regex: 'way\\.\\nWhere'}]", False),  # never over two parts
        ("any: [{status: ok}]", True),
        ("any: [{status: error}]", False),
        ("any: [{finish_reason: length}]", True),
        ("any: [{finish_reason: stop}, {has: tool_calls}]", True),
        ("any: [{has: refusal}]", False),
        ("any: [{has: tools}]", True),
        ("any: [{has: output}]", True),
        ("any: [{has: media}]", False),
        ("all: [{in: user, literal: refund}, {status: ok}]", True),
        ("all: [{in: user, literal: refund}, {status: error}]", False),
        ("all: [{status: ok}], any: [{in: user, literal: zzz}]", False),
        ("all: [{status: ok}], none: [{in: user, literal: refund}]", False),
        ("all: [{status: ok}], none: [{in: user, literal: zzz}]", True),
    ],
)
def test_what_a_condition_means(rules_file: Path, conditions: str, expected: bool):
    assert matches(rules_file, conditions) is expected


def test_media_are_parts_that_are_no_text(rules_file: Path):
    text = Message(role="user", content="a", parts=[{"type": "text", "text": "a"}])
    image = Message(role="user", parts=[{"type": "image_url"}])
    for message, expected in ((text, False), (image, True)):
        log = LogRecord(log_id="one", ts_ms=1, messages=(message,))
        assert matches(rules_file, "any: [{has: media}]", log) is expected


def test_rules_are_found_in_the_order_of_the_file(rules_file: Path):
    names = [f"r{number}" for number in range(20)]
    rules = load(
        rules_file, *(f"{{name: {n}, version: 2, tag: 'x:{n}', any: [{{in: user, literal: refund}}]}}" for n in names)
    )
    assert [rule.name for rule in rules.find(LOG, texts_of(LOG)).rules] == names


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{name: r, version: 1, tag: 'x:y'}", "'r': it needs a condition"),
        ("{name: r, version: 1, tag: 'x:y', none: [{status: ok}]}", "'r': it needs a condition"),
        ("{name: r, version: 1, tag: plain, any: [{status: ok}]}", "'r': the tag 'plain' is not `namespace:value`"),
        (
            "{name: r, version: 1, tag: 'x:y', any: [{in: user, regex: '(?<=a)b'}]}",
            "'r', `any` number 1: not an RE2",
        ),
        ("{name: r, version: 1, tag: 'x:y', all: [{status: ok}, {regex: a}]}", "'r', `all` number 2: `in`"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user, status: ok}]}", "'r', `any` number 1: `in`"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user}]}", "'r', `any` number 1: name one of"),
        ("{name: r, version: 1, tag: 'x:y', any: [{status: ok, has: tools}]}", "'r', `any` number 1: name one of"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: title, literal: a}]}", "'r' (number 1): Invalid enum value"),
        ("{name: r, version: one, tag: 'x:y', any: [{status: ok}]}", "'r' (number 1): Expected `int`"),
        (
            "{name: r, version: 1, tag: 'x:y', some: [{status: ok}]}",
            "'r' (number 1): Object contains unknown field `some`",
        ),
        ("{version: 1, tag: 'x:y', any: [{status: ok}]}", "None (number 1): Object missing required field `name`"),
        ("just text", "None (number 1)"),
    ],
)
def test_an_error_names_the_rule_and_the_reason(rules_file: Path, rule: str, said: str):
    with pytest.raises(RulesInvalid) as caught:
        load(rules_file, rule)
    assert said in str(caught.value)


def test_a_name_may_be_used_once(rules_file: Path):
    rule = "{name: r, version: 1, tag: 'x:y', any: [{status: ok}]}"
    with pytest.raises(RulesInvalid, match="'r': the name is used twice"):
        load(rules_file, rule, rule)


@pytest.mark.parametrize("content", ["", "rules: 5", "- a", "rules: []\nmore: 1", "rules: [", "rules: [\x00]"])
def test_a_file_that_is_no_list_of_rules(rules_file: Path, content: str):
    rules_file.write_text(content, encoding="utf-8")
    with pytest.raises(RulesInvalid, match=r"rules\.yaml"):
        load_rules(rules_file)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(RulesInvalid, match=r"gone\.yaml"):
        load_rules(tmp_path / "gone.yaml")


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, max_size=12), st.text(max_size=12))
def test_a_literal_is_never_a_pattern(literal: str, text: str):
    """Any text may be a literal: it compiles, and finds nothing but itself."""
    from tunemill.streams.rules import Condition, Rule

    rules = Rules([Rule(name="r", version=1, tag="x:y", any=(Condition(where="user", literal=literal),))])
    log = LogRecord(log_id="one", ts_ms=1, messages=(Message(role="user", content=text),))
    if rules.find(log, texts_of(log)).rules:
        assert literal.casefold() in text.casefold() or literal.lower() in text.lower()
