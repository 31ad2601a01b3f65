"""What a rule means, and what is said about one that is wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.errors import RulesInvalid
from tunemill.streams.rule import Condition, Rule
from tunemill.streams.rules import Rules, read_rules
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
    model="m-1",
    app="shop",
    latency_ms=2000,
    cost_usd=0.02,
    usage=Usage(input_tokens=10),
    tools=[{"type": "function"}],
)


def read(*rules: str) -> Rules:
    return read_rules("rules:\n" + "\n".join(f"  - {rule}" for rule in rules))


def matches(conditions: str, log: LogRecord = LOG) -> bool:
    rules = read(f"{{name: r, version: 1, tag: 'x:y', {conditions}}}")
    return [tag.by for tag in rules.find([(log, texts_of(log))])[0].tags] == ["r@1"]


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
        ("any: [{finish_reason: [stop, length]}]", True),
        ("any: [{model: m-1}]", True),
        ("any: [{model: m}]", False),  # exact
        ("any: [{app: shop}, {provider: nobody}]", True),
        ("any: [{app: [tutor, bank]}]", False),
        ("any: [{provider: openai}]", False),  # not said by the log
        ("any: [{operation: chat}]", True),
        ("any: [{field: latency_ms, over: 1999}]", True),
        ("any: [{field: latency_ms, over: 2000}]", False),
        ("any: [{field: latency_ms, under: 2000}]", False),
        ("any: [{field: latency_ms, over: 1999.5, under: 2000.5}]", True),
        ("any: [{field: cost_usd, over: 0.01}]", True),
        ("any: [{field: input_tokens, under: 11}]", True),
        ("any: [{field: output_tokens, over: 0}, {field: output_tokens, under: 1}]", False),  # not said by the log
        ("any: [{field: messages, over: 3, under: 5}]", True),
        ("any: [{field: turns, under: 2}]", True),
        ("any: [{field: turns, over: 1}]", False),
        ("any: [{field: chars, over: 107, under: 109}]", True),
        ("all: [{in: user, literal: refund}, {in: user, literal: order}]", True),
        ("all: [{in: user, literal: refund}, {in: assistant, literal: order}]", False),
        ("all: [{in: user, literal: refund}, {status: ok}]", True),
        ("all: [{in: user, literal: refund}, {status: error}]", False),
        ("all: [{status: ok}], any: [{in: user, literal: zzz}]", False),
        ("all: [{status: ok}], none: [{in: user, literal: refund}]", False),
        ("all: [{status: ok}], none: [{in: user, literal: zzz}]", True),
        ("any: [{in: user, literal: refund}], none: [{in: user, literal: zzz}, {field: turns, over: 0}]", False),
    ],
)
def test_what_a_condition_means(conditions: str, expected: bool):
    assert matches(conditions) is expected


def test_media_are_parts_that_are_no_text():
    text = Message(role="user", content="a", parts=[{"type": "text", "text": "a"}])
    image = Message(role="user", parts=[{"type": "image_url"}])
    for message, expected in ((text, False), (image, True)):
        log = LogRecord(log_id="one", ts_ms=1, messages=(message,))
        assert matches("any: [{has: media}]", log) is expected


def test_rules_are_found_in_the_order_of_the_text():
    names = [f"r{number}" for number in range(20)]
    rules = read(*(f"{{name: {n}, version: 2, tag: 'x:{n}', any: [{{in: user, literal: refund}}]}}" for n in names))
    assert [tag.by.partition("@")[0] for tag in rules.find([(LOG, texts_of(LOG))])[0].tags] == names


def test_logs_that_share_a_text_are_told_the_same_by_it():
    gap, other = "{in: user, regex: 'Order[^.]*urgent'}", "{in: user, regex: 'REFUND[^.]*nothing'}"
    rules = read(
        f"{{name: any, version: 1, tag: 'x:any', any: [{other}, {gap}]}}",
        f"{{name: all, version: 1, tag: 'x:all', all: [{{has: tools}}, {gap}]}}",
        f"{{name: none, version: 1, tag: 'x:none', any: [{{has: tools}}], none: [{gap}]}}",
        f"{{name: not, version: 1, tag: 'x:not', any: [{{has: tools}}], none: [{other}]}}",
    )
    found = rules.find([(LOG, texts_of(LOG))] * 3)
    assert [[entry.tag for entry in one.tags] for one in found] == [["x:any", "x:all", "x:not"]] * 3


def test_a_rule_that_is_switched_off_is_checked_and_not_used():
    rule = "{{name: r, version: 1, tag: 'x:y', enabled: false, any: [{{status: {}}}]}}"
    assert read(rule.format("ok")).rules == ()
    with pytest.raises(RulesInvalid, match="ok or error"):
        read(rule.format("good"))


def test_the_policy_for_private_data_and_the_learned_tags_stand_beside_the_rules():
    assert read_rules("rules: []").private_data == "snapshot"
    rules = read_rules("private_data: ingest\nrules: []", learned=("a model",))
    assert (rules.rules, rules.private_data, rules.learned) == ((), "ingest", ("a model",))


def errors(text: str) -> list[str]:
    with pytest.raises(RulesInvalid) as caught:
        read_rules(text, place="mine.yaml")
    said = [str(error) for error in caught.value.errors]
    assert str(caught.value) == "\n".join(f"mine.yaml:{line}" for line in said)
    return said


# The rule stands at line 2, column 5.
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{name: r, version: 1, tag: 'x:y'}", "2:5: rule r: it needs a condition"),
        ("{name: r, version: 1, tag: 'x:y', none: [{status: ok}]}", "2:5: rule r: it needs a condition"),
        ("{name: r, version: 1, tag: plain, any: [{status: ok}]}", "2:32: rule r: a tag is `namespace:value`"),
        ("{name: r, version: 1, tag: 'A:y', any: [{status: ok}]}", "2:32: rule r: a tag is `namespace:value`"),
        ("{name: r, version: 1, tag: 'x:y z', any: [{status: ok}]}", "2:32: rule r: a tag is `namespace:value`"),
        ("{name: 'r:1', version: 1, tag: 'x:y', any: [{status: ok}]}", "2:12: rule r:1: a name is"),
        ("{name: pii, version: 1, tag: 'x:y', any: [{status: ok}]}", "2:12: rule pii: another setter"),
        ("{name: r, version: 0, tag: 'x:y', any: [{status: ok}]}", "2:24: rule r: versions count from 1"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user, regex: '(?<=a)b'}]}", "2:63: rule r: not an RE2"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user, regex: [a, '(b']}]}", "2:67: rule r: not an RE2"),
        ("{name: r, version: 1, tag: 'x:y', all: [{status: ok}, {regex: a}]}", "2:59: rule r: `in` says"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user, status: ok}]}", "2:50: rule r: `in` goes with"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user}]}", "2:45: rule r: name one of"),
        ("{name: r, version: 1, tag: 'x:y', any: [{status: ok, has: tools}]}", "2:45: rule r: name one of"),
        (
            "{name: r, version: 1, tag: 'x:y', any: [{in: title, literal: a}]}",
            "2:50: rule r: `in`: Invalid enum value 'title'; known: text, user",
        ),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user, literal: []}]}", "2:65: rule r: there is nothing"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user, literal: [a, ' ']}]}", "2:65: rule r: there is nothing"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user, literal: [a, 404]}]}", "2:69: rule r: `literal`: Exp"),
        ("{name: r, version: 1, tag: 'x:y', any: [{in: user, literal: yes}]}", "2:65: rule r: `literal`: Exp"),
        (
            "{name: r, version: 1, tag: 'x:y', any: [{field: age, over: 1}]}",
            "2:53: rule r: `field`: Invalid enum value 'age'; known: ",
        ),
        ("{name: r, version: 1, tag: 'x:y', any: [{field: turns}]}", "2:53: rule r: `over` or `under`"),
        ("{name: r, version: 1, tag: 'x:y', any: [{status: ok, over: 1}]}", "2:64: rule r: `over` goes with"),
        ("{name: r, version: 1, tag: 'x:y', any: [{field: turns, over: x}]}", "2:66: rule r: `over`: Expected"),
        ("{name: r, version: 1, tag: 'x:y', any: {status: ok}}", "2:44: rule r: expected a list of conditions"),
        ("{name: r, version: 1, tag: 'x:y', any: [status]}", "2:45: rule r: expected fields"),
        ("{name: r, version: one, tag: 'x:y', any: [{status: ok}]}", "2:24: rule r: `version`: Expected `int`"),
        ("{name: r, version: 1, tag: 'x:y', some: [{status: ok}]}", "2:39: rule r: unknown field `some`"),
        ("{version: 1, tag: 'x:y', any: [{status: ok}]}", "2:5: rule number 1: the field `name` is missing"),
        ("{name: 5, version: 1, tag: 'x:y', any: [{status: ok}]}", "2:12: rule number 1: `name`: Expected `str`"),
        ("just text", "2:5: rule number 1: expected fields"),
    ],
)
def test_an_error_names_the_place_the_rule_and_the_reason(rule: str, said: str):
    (found, *_) = errors(f"rules:\n  - {rule}")
    assert found.startswith(said)


@pytest.mark.parametrize(
    "conditions",
    [
        "all: [{status: ok}, {status: error}]",
        "all: [{model: [a, b]}, {model: [b, c]}, {model: a}]",
        "all: [{field: turns, over: 3}, {field: turns, under: 2}]",
        "all: [{status: ok}], none: [{status: [ok, error]}]",
        "any: [{has: tools}, {in: user, literal: a}], none: [{in: text, literal: [a, b]}, {has: tools}]",
    ],
)
def test_a_rule_that_can_never_match_is_refused(conditions: str):
    (said,) = errors(f"rules: [{{name: r, version: 1, tag: 'x:y', {conditions}}}]")
    assert "it can never match" in said


@pytest.mark.parametrize("condition", ["over: 5, under: 5", "under: 0", "over: .nan", "over: 9, under: 2"])
def test_a_size_that_nothing_has_is_refused(condition: str):
    (said,) = errors(f"rules: [{{name: r, version: 1, tag: 'x:y', any: [{{field: turns, {condition}}}]}}]")
    assert "no size is so" in said


def test_everything_that_is_wrong_is_said_at_once():
    text = """
private_data: maybe
rules:
  - name: one
    version: 1
    tag: topic
    any:
      - {in: user, regex: '(a'}
      - {in: user, regex: ['b', 'c)']}
  - name: two
    version: x
    color: red
    any:
      - {in: nowhere, literal: a}
  - {name: one, version: 1, tag: 'x:y', any: [{status: ok}]}
"""
    said = errors(text)
    assert [place.partition(": ")[0] for place in said] == [
        "2:15",
        "6:10",
        "8:27",
        "9:33",
        "10:5",
        "11:14",
        "12:5",
        "14:14",
        "15:12",
    ]
    assert "rule two: the field `tag` is missing" in said[4]
    assert "the name is used twice" in said[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: it is empty"),
        ("- a", "1:1: expected fields: rules"),
        ("private_data: never", "1:1: expected a field `rules`"),
        ("rules: 5", "1:8: expected a field `rules`"),
        ("rules: []\nmore: 1", "2:1: unknown field `more`"),
        ("rules: []\nrules: []", "2:1: the field `rules` stands here twice"),
        ("rules: [", "1:9: not YAML"),
        ("rules:\n  - [\x00]", "2:6: not YAML: special characters"),
        ("rules: []\n---\nrules: []", "2:1: not YAML"),
        ("rules: &a []\nprivate_data: *a", "1:8: what has this anchor"),
        ("rules: &a [*a]", "1:8: what has this anchor"),
        ("[a, b]: c", "1:1: a field's name"),
        ('rules: "\\UFFFFFFFF"', "1:1: not YAML"),
        ('rules: ["\\uD800"]', "1:9: it holds half"),
        ("[" * 5000, "1:1: not usable: nested too deep"),
        ("#" * (2**20 + 1), "1:1: more than 1,048,576 characters"),
    ],
)
def test_a_text_that_is_no_list_of_rules(text: str, said: str):
    (found,) = errors(text)
    assert found.startswith(said)


PIECES = (
    "rules: |- |name: r|version: 1|tag: x:y|any:|all: [|none: |in: user|literal: a|regex: '(a'|status: ok|field: turns|over: .nan"
    '|under: 1|{|}|[|]|, |: |&a |*a|!!int |<<: |? |"\\x|"|%YAML 9.9|---|\t|\ud800|1e999|0x|2020-99-99|private_data: |  - |    '
)


@settings(deadline=None, max_examples=400)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(["\n", *PIECES.split("|")]), max_size=25).map("".join)))
def test_no_text_makes_it_fail_in_another_way(text: str):
    try:
        read_rules(text)
    except RulesInvalid as error:
        lines = text.split("\n")
        assert error.errors
        assert all(found.line >= 1 and found.column >= 1 and found.reason for found in error.errors)
        assert all(found.line <= len(lines) + text.count("\r") + 1 for found in error.errors)


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, max_size=12), st.text(max_size=12))
def test_a_literal_is_never_a_pattern(literal: str, text: str):
    """Any text may be a literal: it compiles, and finds nothing but itself."""
    rules = Rules([Rule(name="r", version=1, tag="x:y", any=(Condition(where="user", literal=literal),))])
    log = LogRecord(log_id="one", ts_ms=1, messages=(Message(role="user", content=text),))
    if rules.find([(log, texts_of(log))])[0].tags:
        assert literal.casefold() in text.casefold() or literal.lower() in text.lower()
