"""A draft frozen: the same input gives the same rows and bytes; no conversation stands on two sides."""

from collections import defaultdict
from typing import Any

import msgspec
import pytest
from fakes.curator_api import tagged
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.diff import Change, diff
from tunemill.curator_api.parts import parts, provenance
from tunemill.curator_api.report import report
from tunemill.curator_api.rows import Row, RowMessage, imported_row
from tunemill.curator_api.snapshot import SPLITS, Changes, Snapshot, freeze
from tunemill.privacy.pii import PrivateData
from tunemill.schemas.records import Message, Tag, TaggedLog, ToolCall


def frozen(
    logs: list[TaggedLog], imported: tuple[Row, ...] = (), changes: Changes | None = None, **more: Any
) -> Snapshot:
    options: dict[str, Any] = {"default_consent": "none", "seed": 0, "test_share": 0.5, **more}
    return freeze(logs, imported, changes or Changes(), **options)


def turns(session: str | None, length: int) -> list[TaggedLog]:
    """The logs of one conversation: each turn's input holds the turns before it."""
    history: list[Message] = []
    logs = []
    for turn in range(length):
        history.append(Message(role="user", content=f"question {turn} of {session or 'nobody'}"))
        answer = Message(role="assistant", content=f"answer {turn}")
        logs.append(
            tagged(f"{session}-{turn}", messages=tuple(history), output=(answer,), session_id=session, ts_ms=turn)
        )
        history.append(answer)
    return logs


def from_file(question: str) -> Row:
    messages = (RowMessage(role="user", content=question), RowMessage(role="assistant", content="yes"))
    return imported_row(messages, None)


conversations = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 4), min_size=1, max_size=8)


@settings(deadline=None)
@given(conversations, st.integers(0, 1000), st.randoms())
def test_any_order_of_the_logs_gives_the_same_snapshot_and_the_same_bytes(
    sizes: dict[str, int], seed: int, random: Any
) -> None:
    logs = [log for session, size in sizes.items() for log in turns(session, size)]
    one = frozen(logs, seed=seed)
    random.shuffle(logs)
    other = frozen(logs, seed=seed)
    assert one == other
    assert [list(parts(one.rows, split)) for split in SPLITS] == [list(parts(other.rows, split)) for split in SPLITS]
    assert provenance(one.rows) == provenance(other.rows)


@settings(deadline=None)
@given(conversations, st.integers(0, 1000), st.booleans())
def test_the_turns_of_a_conversation_stand_on_one_side(sizes: dict[str, int], seed: int, named: bool) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    logs = [log for session, size in sizes.items() for log in turns(session, size)]
    if not named:
        logs = [tagged(log.log.log_id, messages=log.log.messages, output=log.log.output) for log in logs]
    for row in frozen(logs, seed=seed).rows:
        sides[row.row.row_key.rsplit("-", 1)[0]].add(row.split)
    assert len(sides) == len(sizes)
    assert all(len(side) == 1 for side in sides.values())


def test_an_edit_tears_no_conversation_apart() -> None:
    edited = (RowMessage(role="user", content="something else"), RowMessage(role="assistant", content="x"))
    for n in range(20):
        logs = [
            msgspec.structs.replace(turn, log=msgspec.structs.replace(turn.log, session_id=None))
            for turn in turns(f"talk {n}", 3)
        ]
        rows = frozen(logs, changes=Changes(edits={f"talk {n}-0": edited})).rows
        assert (len(rows), len({row.split for row in rows})) == (3, 1)


def test_conversations_that_share_a_row_stand_on_one_side() -> None:
    for seed in range(30):
        logs = [
            tagged("a-1", "shared", session_id="a"),
            tagged("b-1", "shared", session_id="b"),
            tagged("a-2", "more of a", session_id="a"),
            tagged("b-2", "more of b", session_id="b"),
        ]
        assert len({row.split for row in frozen(logs, seed=seed).rows}) == 1


def test_the_seed_and_the_share_decide_the_sides_and_a_conversation_keeps_its_own() -> None:
    logs = [tagged(f"l{n}", f"question {n}") for n in range(400)]
    few = {row.row_id: row.split for row in frozen(logs[:200], test_share=0.1).rows}
    many = {row.row_id: row.split for row in frozen(logs, test_share=0.1).rows}
    assert few.items() <= many.items()
    assert 20 <= sum(split == "test" for split in many.values()) <= 60
    assert many != {row.row_id: row.split for row in frozen(logs, test_share=0.1, seed=1).rows}
    assert {row.split for row in frozen(logs, test_share=0).rows} == {"train"}


def test_duplicates_collapse_and_every_source_is_named() -> None:
    snapshot = frozen([tagged("b"), tagged("a"), tagged("c", "another")])
    assert (snapshot.matched, snapshot.excluded) == (3, {"duplicate_content": 1})
    assert {row.row_keys for row in snapshot.rows} == {("a", "b"), ("c",)}


def test_changes_of_people_hold_for_logs_and_imported_rows() -> None:
    mine, gone, kept = from_file("mine"), from_file("gone"), from_file("kept")
    edit = (RowMessage(role="user", content="hi"), RowMessage(role="assistant", content="edited"))
    changes = Changes(
        edits={"a": edit, mine.row_key: (*edit[:1], RowMessage(role="assistant", content="mine, edited"))},
        deleted=frozenset({"b", gone.row_key}),
        erased=frozenset({"c"}),
    )
    logs = [tagged("a"), tagged("b", "two"), tagged("c", "three"), tagged("d", "four")]
    snapshot = frozen(logs, (mine, gone, kept), changes)
    assert snapshot.excluded == {"deleted_by_person": 2, "erased": 1}
    answers = {row.row.row_key: (row.row.messages[-1].content, row.row.edited) for row in snapshot.rows}
    assert answers == {
        "a": ("edited", True),
        "d": ("4", False),
        mine.row_key: ("mine, edited", True),
        kept.row_key: ("yes", False),
    }


def test_the_report_accounts_for_every_log() -> None:
    logs = [
        tagged("a", "one", language="de"),
        tagged("b", "two", tags=()),
        tagged("c", tags=("pii:email",)),
        tagged("d", consent="none"),
        tagged("e", "one", language="de"),
    ]
    found = report(frozen(logs, (from_file("x"),), test_share=0))
    assert found.matched == found.rows + sum(found.excluded.values()) == 6
    assert found.excluded == {"consent": 1, "duplicate_content": 1, "pii": 1}
    assert (found.languages, found.tags) == ({"de": 1, "en": 1, "unknown": 1}, {"topic:math": 1})
    assert (found.splits, found.imported, found.edited) == ({"train": 3, "test": 0}, 1, 0)
    assert (found.messages_per_row.min, found.messages_per_row.max) == (2, 2)
    assert found.characters_per_row.total == 2 * len("one4") + len("xyes")
    assert found.warnings == ("the test split is empty",)


def test_a_large_split_becomes_several_parts_in_order(monkeypatch: Any) -> None:
    monkeypatch.setattr("tunemill.curator_api.parts.PART_ROWS", 4)
    rows = frozen([tagged(f"l{n}", f"question {n}") for n in range(10)], test_share=0).rows
    made = list(parts(rows, "train"))
    assert [part.rows for part, _ in made] == [4, 4, 2]
    assert len({part.sha256 for part, _ in made}) == 3
    assert list(parts(rows, "test")) == []


def test_a_diff_tells_rows_that_came_went_and_changed() -> None:
    before = {"same": "1", "edited": "2", "gone": "3", "twin-a": "4", "twin-b": "4"}
    after = {"same": "1", "edited": "2b", "new": "5", "twin-b": "4", "again": "1"}
    assert diff(before, after) == [
        Change("changed", "edited", "2", "2b"),
        Change("removed", "gone", "3", None),
        Change("added", "new", None, "5"),
    ]
    assert diff(before, before) == []


def private_log(log_id: str, *, by: str = "pii@2", removed: tuple[str, ...] = ()) -> TaggedLog:
    """A log with private data in each place that a row takes."""
    call = ToolCall(name="pay", arguments='{"card": 4111111111111111, "to": "DE89370400440532013000"}', id="call_1")
    log = tagged(
        log_id,
        messages=(
            Message(role="user", content="I am ada@work.co"),
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content="from 81.2.69.142", tool_call_id="call_1"),
        ),
        output=(Message(role="assistant", content="Done, ada@work.co"),),
        tools=[{"function": {"name": "pay", "description": "ask +49 30 901820"}}],
    )
    return msgspec.structs.replace(log, tags=(*log.tags, Tag("pii:email", by)), removed=removed)


@pytest.mark.parametrize("policy", ["ingest", "snapshot"])
def test_private_data_is_replaced_in_the_rows_and_the_report_says_so(policy: PrivateData) -> None:
    snapshot = frozen([private_log("a")], private_data=policy)
    (row,) = (frozen.row for frozen in snapshot.rows)
    assert [message.content for message in row.messages] == [
        "I am [PII:email]",
        None,
        "from [PII:ip]",
        "Done, [PII:email]",
    ]
    assert msgspec.json.decode(row.messages[1].tool_calls[0].arguments) == {"card": "[PII:card]", "to": "[PII:iban]"}
    assert row.tools is not None
    assert "[PII:phone]" in row.tools
    found = report(snapshot, policy)
    assert (found.private_data, found.masked) == (policy, dict.fromkeys(("card", "email", "iban", "ip", "phone"), 1))
    assert row.tags == ("topic:math", "pii:email")


def test_where_private_data_is_never_replaced_rows_are_as_the_logs_are() -> None:
    log = private_log("a", by="person:ann")
    snapshot = frozen([log], private_data="never")
    (row,) = (frozen.row for frozen in snapshot.rows)
    assert row.messages[0].content == "I am ada@work.co"
    assert (row.masked, report(snapshot, "never").masked) == ((), {})


def test_what_a_person_saw_no_pattern_may_find_and_what_a_person_took_off_is_none() -> None:
    seen = frozen([private_log("a", by="person:ann")])
    assert (seen.rows, seen.excluded) == ((), {"pii": 1})
    (row,) = frozen([private_log("a", removed=("pii:email",))]).rows
    assert row.row.messages[0].content == "I am ada@work.co"
    assert row.row.messages[2].content == "from [PII:ip]"


def test_private_data_in_edits_and_imports_is_replaced_too() -> None:
    edit = (RowMessage(role="user", content="mail ada@work.co"), RowMessage(role="assistant", content="yes"))
    mine = from_file("I am grace@work.co")
    snapshot = frozen([private_log("a")], (mine,), Changes(edits={"a": edit}))
    assert {row.row.messages[0].content for row in snapshot.rows} == {"mail [PII:email]", "I am [PII:email]"}
