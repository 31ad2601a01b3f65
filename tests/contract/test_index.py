"""What the stream, the API and the trainer rely on in a search index, on both engines."""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from engines.own_index import ENGINES, opened_for
from fakes.search_memory import MemorySearch

from tunemill.indexer.cursor import decode, encode
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.open import open_index
from tunemill.indexer.query import MAX_BEGINNING, MAX_CHARACTERS, MAX_DEPTH, MAX_TERMS, parse
from tunemill.indexer.search import SearchIndex, SearchPage, SearchRequest
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import Edit, Feedback, LogRecord, Message, Said, Tag, TaggedLog, ToolCall, Usage
from tunemill.schemas.stored import StoredLog, StoredNote
from tunemill.schemas.trace import TraceNote


def log(
    log_id: str, text: str, *tags: str, answer: str = "", language: str | None = "en", **fields: object
) -> TaggedLog:
    fields = {"ts_ms": 1_767_225_600_000, **fields}
    record = LogRecord(
        log_id=log_id,
        messages=(Message(role="user", content=text),),
        output=(Message(role="assistant", content=answer),) if answer else (),
        **fields,  # type: ignore[arg-type]
    )
    return TaggedLog(
        log=record,
        content_digest=f"digest-of-{text}",
        tags=tuple(Tag(tag, "rule@1") for tag in tags),
        language=language,
    )


DAY_MS = 86_400_000
NEW_YEAR = 1_767_225_600_000  # 2026-01-01

CORPUS = (
    log("division", "Explain long division please", "topic:math", model="gpt-4o", app="tutor", latency_ms=2500.0),
    log("divided", "The long story of a division of the army", model="gpt-4o-mini", app="history", latency_ms=100.0),
    log("refund", "I want a refund for my order", "topic:billing", "pii:email", app="shop", ts_ms=NEW_YEAR + DAY_MS),
    log("chargeback", "A chargeback was filed", "topic:billing", app="shop", ts_ms=NEW_YEAR + 40 * DAY_MS),
    log("code", "def foo_bar(x): return x.append(v1.2)", "topic:code", answer="numpy.linalg.norm is faster", app="ide"),
    log("german", "Die Straße über den Fluß führt nach Köln", language="de", app="maps"),
    log("chinese", "请解释一下微积分的基本定理", "topic:math", language="zh", app="tutor"),
    log("japanese", "東京タワーへの行き方を教えてください", language="ja", app="maps"),
    log("arabic", "مرحبا، كيف يمكنني حساب المساحة؟", language="ar", app="tutor"),
    log("korean", "한국어 문장을 번역해 주세요", language="ko", app="maps"),
    log("emoji", "that was great 🎉👍🏽 thanks", language="en", app="shop"),
    log("quotes", "she said “don’t panic” and “it’s fine”", language="en", app="ide"),
    log("failed", "this one broke", "status:error", status="error", error="timeout", provider="openai", app="ide"),
    log(
        "tools",
        "weather in Paris?",
        "shape:tool-call",
        answer="",
        app="ide",
        finish_reason="tool_calls",
        session_id="s-1",
        user_id="u-1",
        metadata={"env": "prod", "user.tier": "gold"},
        usage=Usage(input_tokens=12, output_tokens=900),
        cost_usd=0.25,
        consent="train",
        trace_id="t-1",
        source="otlp",
    ),
    TaggedLog(
        log=LogRecord(
            log_id="calls",
            ts_ms=NEW_YEAR - 1,
            messages=(Message(role="user", content="what is the forecast"),),
            output=(
                Message(
                    role="assistant", tool_calls=(ToolCall(name="get_weather", arguments='{"city": "Reykjavik"}'),)
                ),
            ),
            app="ide",
        ),
        content_digest="d",
        tag_status="failed",
    ),
    TaggedLog(
        log=LogRecord(
            log_id="judged",
            ts_ms=NEW_YEAR + 2,
            messages=(
                Message(role="system", content="You are a patient mathematician"),
                Message(role="user", content="the sum of seven and five"),
            ),
            output=(Message(role="assistant", content="thirteen"),),
            response_id="r-1",
            consent="train",
        ),
        content_digest="d",
        edit=Edit(
            messages=(
                Message(role="system", content="You are a patient mathematician"),
                Message(role="user", content="the sum of seven and five"),
            ),
            output=(Message(role="assistant", content="twelve, as ever"),),
        ),
        consent="eval_only",
        feedback=(
            Said(name="is_correct", score=0.0, corrected=True, commented=True),
            Said(name="tone", label="kind", score=0.5),
        ),
    ),
)
ALL = {item.log.log_id for item in CORPUS}

FOUND = {
    "": ALL,
    "division": {"division", "divided"},
    "DIVISIONS": {"division", "divided"},
    '"long division"': {"division"},
    '"division long"': set(),
    "long division": {"division", "divided"},
    "long -story": {"division"},
    "long NOT story": {"division"},
    "NOT (long OR refund) topic": set(),
    "refund OR chargeback": {"refund", "chargeback"},
    "app:shop (refund OR chargeback) -tag:pii:*": {"chargeback"},
    "refund OR long story": {"refund", "divided"},
    "(refund OR long) story": {"divided"},
    "divi*": {"division", "divided"},
    "calculat*": set(),
    "explaine*": {"division"},
    "tag:topic:math": {"division", "chinese"},
    "tag:topic:*": {"division", "refund", "chargeback", "code", "chinese"},
    "tag:topic": set(),
    "-tag:*": ALL - {"division", "refund", "chargeback", "code", "chinese", "failed", "tools"},
    "tag:*": {"division", "refund", "chargeback", "code", "chinese", "failed", "tools"},
    "model:gpt-4o": {"division"},
    "model:gpt-4o*": {"division", "divided"},
    'model:"gpt-4o"*': {"division", "divided"},
    "model:GPT-4o": set(),
    "app:tutor": {"division", "chinese", "arabic"},
    "app:tutor lang:zh": {"chinese"},
    "language:de": {"german"},
    "status:error": {"failed"},
    "provider:openai": {"failed"},
    "finish:tool_calls": {"tools"},
    "session:s-1": {"tools"},
    "user:u-1": {"tools"},
    "trace:t-1": {"tools"},
    "consent:train": {"tools"},
    "source:otlp": {"tools"},
    "tagging:failed": {"calls"},
    "id:tools OR id:calls": {"tools", "calls"},
    "id:chin*": {"chinese"},
    "metadata.env:prod": {"tools"},
    "metadata.env:pr*": {"tools"},
    "metadata.env:*": {"tools"},
    "metadata.user.tier:gold": {"tools"},
    "metadata.env:gold": set(),
    "latency_ms:>2000": {"division"},
    "latency_ms:>=2500": {"division"},
    "latency_ms:>2500": set(),
    "latency_ms:<=100": {"divided"},
    "latency_ms:[50 TO 2500}": {"divided"},
    "latency_ms:*": {"division", "divided"},
    "latency_ms:{100 TO *}": {"division"},
    "latency_ms:{* TO 2500}": {"divided"},
    "latency_ms:{* TO *}": {"division", "divided"},
    "ts:{* TO 2026-01-01}": {"calls"},
    "latency_ms:[* TO *]": {"division", "divided"},
    "output_tokens:>899": {"tools"},
    "output_tokens:>899.5 output_tokens:<900.5": {"tools"},
    "output_tokens:>1e300": set(),
    "input_tokens:12": {"tools"},
    "cost_usd:<1": {"tools"},
    "ts:2026-01-02": {"refund"},
    "ts:>2026-01-01": {"refund", "chargeback"},
    "ts:<2026-01-01": {"calls"},
    "ts:[2026-01-02 TO 2026-02-01]": {"refund"},
    "ts:{2026-01-01 TO *]": {"refund", "chargeback"},
    "ts:>=2026-02": {"chargeback"},
    "ts:*": ALL,
    "foo_bar": {"code"},
    "append": set(),  # x.append is one word to both
    "x.append": {"code"},
    "v1.2": {"code"},
    "numpy.linalg.norm": {"code"},
    "strasse": {"german"},
    "Straße": {"german"},
    "uber fluss": {"german"},
    "köln": {"german"},
    "微积分": {"chinese"},
    "积分": {"chinese"},
    "微*": {"chinese"},
    "基本定理": {"chinese"},
    "定理基本": set(),
    "タワー": {"japanese"},
    "東京": {"japanese"},
    "行き方": {"japanese"},
    "ﾀﾜｰ": {"japanese"},
    "한국어": {"korean"},
    "문장": {"korean"},
    "مرحبا": {"arabic"},
    "المساحة": {"arabic"},
    "🎉": {"emoji"},
    "👍🏽": {"emoji"},
    "don’t": {"quotes"},
    '"it’s fine"': {"quotes"},
    "reykjavik": {"calls"},
    "get_weather": {"calls"},
    "?": set(),
    "nothing_like_it": set(),
    "prompt:seven": {"judged"},
    "system:patient": {"judged"},
    "system:seven": set(),
    "response:twelve": {"judged"},
    "thirteen": set(),  # an edit took its place
    "consent:eval_only": {"judged"},
    'prompt:"long division"': {"division"},
    'response:"long division"': set(),
    "prompt:divi*": {"division", "divided"},
    "prompt:explaine*": {"division"},
    "response:numpy*": {"code"},
    "prompt:numpy*": set(),
    "tool:reykjavik": {"calls"},
    "prompt:reykjavik": set(),
    "tool:(paris, get_weather)": {"calls"},
    "prompt:微积分": {"chinese"},
    "response:微积分": set(),
    "prompt:seven response:twelve": {"judged"},
    '"seven and five twelve"': set(),
    "app:(shop, tutor) (refund OR 微积分)": {"refund", "chinese"},
    "model:(gpt-4o, nobody)": {"division"},
    "-app:(shop OR tutor, maps, id*) -app:history": {"judged"},
    "tag:(topic:math, pii:*)": {"division", "chinese", "refund"},
    "output_tokens:(>1000, 900)": {"tools"},
    "has:answer": {"code", "judged"},
    "has:correction has:comment has:feedback has:edit": {"judged"},
    "has:(tool-call, error)": {"calls", "failed"},
    "has:model": {"division", "divided"},
    "has:(latency, cost_usd)": {"division", "divided", "tools"},
    "has:metadata.env": {"tools"},
    "-has:language": {"calls", "judged"},
    "has:tools OR has:image OR has:audio OR has:file OR has:reasoning OR has:refusal": set(),
    "feedback:is_correct:0": {"judged"},
    "feedback:(tone:kind, nothing)": {"judged"},
    "feedback:tone:*": {"judged"},
    "feedback:is_correct:1": set(),
    "score:0.25": {"judged"},
    "score:[0 TO 0.25}": set(),
    "score:*": {"judged"},
    "response_id:r-1": {"judged"},
    "chars:[1 TO 17]": {"failed", "tools", "chinese", "korean"},
    "length:>1e6": set(),
    "latency_ms:>2s": {"division"},
    "latency_ms:[50ms TO 2.5s}": {"divided"},
    "ts:>now-1s": set(),
    "ts:<now": ALL,
    "ts:[2026-01-02 TO now]": {"refund", "chargeback"},
    "-division -divided": ALL - {"division", "divided"},
    "NOT NOT refund": {"refund"},
    '"refund for my order" tag:pii:email ts:[2026-01-01 TO 2026-02-01]': {"refund"},
}


@pytest.fixture(params=ENGINES)
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    async with opened_for(request, tmp_path) as index:
        yield index


@pytest.fixture(params=("memory", *ENGINES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    """Both engines and the fake that other tests take for one."""
    if request.param == "memory":
        yield MemorySearch()
        return
    async with opened_for(request, tmp_path) as index:
        yield index


async def fill(index: SearchIndex, logs: Sequence[TaggedLog]) -> None:
    written = await index.write(logs)
    assert [item.outcome for item in written] == [Outcome.INDEXED] * len(logs)
    await index.refresh()


async def search(index: SearchIndex, text: str, **how: object) -> SearchPage:
    return await index.search(SearchRequest(parse(text), **how))  # type: ignore[arg-type]


async def found_ids(index: SearchIndex, text: str) -> list[str]:
    return [hit.log.log.log_id for hit in (await search(index, text, limit=100)).hits]


async def scanned_ids(index: SearchIndex, text: str, limit: int | None = None) -> list[str]:
    return [tagged.log.log_id async for tagged in index.scan(parse(text), limit=limit)]


async def test_every_kind_of_query_finds_the_same_logs(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    found = {text: set(await found_ids(index, text)) for text in FOUND}
    assert found == FOUND


LEAVES = (
    "long",
    "divi*",
    "explaine*",
    '"long division"',
    "微积分",
    "prompt:long",
    "tag:a*",
    "has:model",
    "ts:>2026",
    "cost:1",
)
AT_THE_LIMITS = (
    *("-" * MAX_DEPTH + leaf for leaf in LEAVES),
    *(f"{'(a OR b ' * MAX_DEPTH}{leaf}{')' * MAX_DEPTH}" for leaf in LEAVES),
    *(f"{'-(a OR b ' * (MAX_DEPTH // 2)}{leaf}{')' * (MAX_DEPTH // 2)}" for leaf in LEAVES),
    f"{'(a OR b ' * (MAX_DEPTH - 1)}prompt:(x*, y){')' * (MAX_DEPTH - 1)}",
    *(" ".join([f"{leaf} OR"] * (MAX_TERMS - 1) + [leaf]) for leaf in LEAVES if len(leaf) < 13),
    f"id:({', '.join(['a'] * MAX_TERMS)})",
    " OR ".join(f"explain{at}e*" for at in range(MAX_TERMS)),
    f'"{"a " * (MAX_CHARACTERS // 2 - 2)}"',
    f'"{"数" * (MAX_CHARACTERS - 2)}"',
    "a" * MAX_CHARACTERS,
    *(text * MAX_BEGINNING + "*" for text in ("a", "⒇", "ß", "𝕬")),
    f'tag:"{"a" * MAX_BEGINNING}"*',
    f'metadata.a:"{"a" * MAX_BEGINNING}"*',
)


async def test_a_query_at_the_limits_of_the_language_is_answered(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    for text in AT_THE_LIMITS:
        assert (await search(index, text, limit=1)).total == len(await scanned_ids(index, text)), text[:80]


async def test_total_search_and_scan_agree(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    for text in ("long", "app:ide", "-tag:*", "refund OR chargeback"):
        page = await search(index, text, limit=1)
        assert page.total == len(await scanned_ids(index, text)) == len(FOUND.get(text, await found_ids(index, text)))


async def test_a_log_comes_back_as_it_was_written(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    for tagged in CORPUS:
        assert await index.get(tagged.log.log_id) == tagged
    assert [tagged async for tagged in index.scan(parse("id:tools"), limit=None)] == [
        item for item in CORPUS if item.log.log_id == "tools"
    ]


async def test_free_json_comes_back_as_it_was_written(index: SearchIndex) -> None:
    odd = {"a.b": [1, None, {"": "x"}], "big": 2**60, "f": 1.5, "": {}, "ünï": "\u0000"}
    tagged = log("odd", "x", tools=[odd], params=odd, extra={"deep": [[[[odd]]]]})
    await fill(index, [tagged])
    assert await index.get("odd") == tagged


async def test_a_metadata_key_ends_where_its_value_begins(index: SearchIndex) -> None:
    await fill(index, [log("a", "x", metadata={"env=eu": "1"}), log("b", "x", metadata={"env": "eu=1"})])
    assert await found_ids(index, 'metadata.env:"eu=1"') == ["b"]
    assert await found_ids(index, "metadata.env:eu*") == ["b"]
    assert await found_ids(index, "metadata.env:*") == ["b"]


async def test_what_is_not_there_is_none(index: SearchIndex) -> None:
    assert await index.get("nobody") is None
    for no_id in ("", ".", "..", "x" * 600):
        assert await index.get(no_id) is None


async def test_a_log_is_readable_before_refresh(index: SearchIndex) -> None:
    await index.write([CORPUS[0]])
    assert await index.get("division") == CORPUS[0]


async def test_a_log_under_the_id_of_another_is_rejected_and_changes_nothing(index: SearchIndex) -> None:
    await fill(index, [log("a", "first words"), log("b", "the same")])
    ends = await index.write(
        [log("b", "the same"), log("a", "second words"), log("c", "one"), log("c", "another in one batch")]
    )
    assert [(end.outcome, end.error_code) for end in ends] == [
        (Outcome.DUPLICATE, None),
        (Outcome.REJECTED, "id_conflict"),
        (Outcome.INDEXED, None),
        (Outcome.REJECTED, "id_conflict"),
    ]
    assert all(end.reason for end in ends if end.outcome is Outcome.REJECTED)
    await index.refresh()
    assert await found_ids(index, "first OR second OR another") == ["a"]


async def test_a_replay_changes_nothing(index: SearchIndex) -> None:
    await fill(index, [log("a", "first words")])
    again = await index.write([log("a", "first words"), log("b", "other"), log("b", "other")])
    assert [item.outcome for item in again] == [Outcome.DUPLICATE, Outcome.INDEXED, Outcome.DUPLICATE]
    await index.refresh()
    assert set(await found_ids(index, "first OR other")) == {"a", "b"}


async def test_an_empty_batch_is_fine(index: SearchIndex) -> None:
    assert list(await index.write([])) == []
    await index.delete([])


async def test_a_log_that_no_engine_takes_is_rejected_alone(index: SearchIndex) -> None:
    written = await index.write([log("x" * 600, "long id"), log("good", "fine"), log("", "no id"), log("s", "\ud800")])
    assert [(item.outcome, item.error_code) for item in written] == [
        (Outcome.REJECTED, "bad_id"),
        (Outcome.INDEXED, None),
        (Outcome.REJECTED, "bad_id"),
        (Outcome.REJECTED, "not_unicode"),
    ]
    assert all(item.reason for item in written if item.outcome is Outcome.REJECTED)
    await index.refresh()
    assert await found_ids(index, "") == ["good"]


async def test_odd_values_are_kept_though_not_searchable(index: SearchIndex) -> None:
    odd = log(
        "odd",
        "an odd one",
        "x:" + "y" * 5000,
        "topic:odd",
        app="a" * 40_000,
        model="",
        ts_ms=10**18,
        latency_ms=1e300,
        cost_usd=-0.0,
        usage=Usage(input_tokens=10**30, output_tokens=2**63 - 1),
        metadata={"": "empty key", "k" * 2000: "v", "null": "a\0b", "fine": "yes", "a b=c": "d"},
        session_id=' \t\n*"',
    )
    early = log("early", "before the epoch", ts_ms=-5)
    await fill(index, [odd, early])
    assert await index.get("odd") == odd
    assert await found_ids(
        index, "tag:topic:odd output_tokens:>5 metadata.fine:yes -latency_ms:* -app:* -input_tokens:* cost_usd:0"
    ) == ["odd"]
    assert await found_ids(index, 'session:" \t\n*\\""') == ["odd"]
    assert await scanned_ids(index, "") == ["early", "odd"]


async def test_a_very_long_text_is_found_by_its_end(index: SearchIndex) -> None:
    text = "padding words " * 50_000 + "needle " + "z" * 3000
    await fill(index, [log("long", text)])
    assert await found_ids(index, "needle") == ["long"]


async def test_relevance_puts_the_better_match_first(index: SearchIndex) -> None:
    poor = log("poor", "tax and many other words that have nothing to do with it at all, one after another")
    good = log("good", "tax tax tax")
    await fill(index, [poor, good, log("none", "nothing")])
    page = await search(index, "tax")
    assert [hit.log.log.log_id for hit in page.hits] == ["good", "poor"]
    first, second = (hit.score for hit in page.hits)
    assert first is not None and second is not None and first > second > 0


async def test_without_words_the_newest_comes_first(index: SearchIndex) -> None:
    await fill(index, [log(f"l{at}", "same", app="one", ts_ms=NEW_YEAR + at) for at in (2, 0, 1)])
    for how in ({"sort": "relevance"}, {"sort": "newest"}):
        page = await search(index, "app:one", **how)
        assert [(hit.log.log.log_id, hit.score) for hit in page.hits] == [("l2", None), ("l1", None), ("l0", None)]
    assert [hit.log.log.log_id for hit in (await search(index, "same", sort="newest")).hits] == ["l2", "l1", "l0"]


@pytest.mark.parametrize("sort", ["relevance", "newest"])
@pytest.mark.parametrize("text", ["apple", "appl*", "app:*", ""])
async def test_pages_lose_and_double_nothing(index: SearchIndex, text: str, sort: str) -> None:
    logs = [
        log(f"l{at:03}", "apple " * (at % 4 + 1) + "pear " * (at % 3), app=f"app{at % 2}", ts_ms=NEW_YEAR + at // 10)
        for at in range(57)
    ]
    await fill(index, logs)
    expected = [hit.log.log.log_id for hit in (await search(index, text, sort=sort, limit=100)).hits]
    assert sorted(expected) == [tagged.log.log_id for tagged in logs]
    seen: list[str] = []
    cursor = None
    while True:
        page = await search(index, text, sort=sort, limit=7, cursor=cursor)
        assert page.total == 57
        seen += [hit.log.log.log_id for hit in page.hits]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == expected


async def test_newest_pages_stay_whole_while_logs_come_in(index: SearchIndex) -> None:
    await fill(index, [log(f"old{at}", "apple", ts_ms=NEW_YEAR + at) for at in range(6)])
    first = await search(index, "apple", sort="newest", limit=3)
    await fill(index, [log("new", "apple", ts_ms=NEW_YEAR + 100)])
    second = await search(index, "apple", sort="newest", limit=3, cursor=first.cursor)
    ids = [hit.log.log.log_id for hit in (*first.hits, *second.hits)]
    assert ids == ["old5", "old4", "old3", "old2", "old1", "old0"]


async def test_a_forged_cursor_costs_nothing(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    request = SearchRequest(parse("long OR the OR app:ide"), limit=1)
    first = await index.search(request)
    genuine = replace(request, cursor=first.cursor)
    place = decode(genuine)
    assert place is not None
    forged = replace(request, cursor=encode(msgspec.structs.replace(place, seen=2**61)))
    assert (await index.search(forged)).hits == (await index.search(genuine)).hits
    for impossible in (msgspec.structs.replace(place, seen=-1), msgspec.structs.replace(place, ts_ms=2**80)):
        with pytest.raises(CursorInvalid):
            await index.search(replace(request, cursor=encode(impossible)))


async def test_a_cursor_fits_its_own_search_only(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    cursor = (await search(index, "app:ide", limit=1)).cursor
    assert cursor is not None
    for text, how in (("app:shop", {}), ("long", {"sort": "relevance"}), ("app:ide", {"sort": "newest"})):
        with pytest.raises(CursorInvalid):
            await search(index, text, cursor=cursor, **how)
    for broken in ("", "x", "äöü", "e30", cursor[:-3], "A" * 10_000):
        with pytest.raises(CursorInvalid):
            await search(index, "app:ide", cursor=broken)


async def test_facets_count_all_matches_not_only_the_page(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    page = await search(index, "tag:topic:*", limit=1)
    counts = {name: {item.value: item.count for item in items} for name, items in page.facets.items()}
    assert counts == {
        "tag": {"topic:math": 2, "topic:billing": 2, "topic:code": 1, "pii:email": 1},
        "app": {"tutor": 2, "shop": 2, "ide": 1},
        "model": {"gpt-4o": 1},
        "language": {"en": 4, "zh": 1},
        "status": {"ok": 5},
        "provider": {},
        "finish": {},
        "feedback": {},
    }
    assert [item.value for item in page.facets["tag"]] == ["topic:billing", "topic:math", "pii:email", "topic:code"]


async def test_a_page_of_no_hits_still_counts(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    page = await search(index, "app:shop", limit=0)
    assert (page.total, page.hits, page.cursor) == (3, (), None)
    assert page.facets["app"][0].count == 3


async def test_facets_show_the_most_frequent_and_break_ties_by_name(index: SearchIndex) -> None:
    logs = [log(f"l{at}", "x", f"n:{at % 50:02}") for at in range(75)]
    await fill(index, logs)
    facet = (await search(index, "")).facets["tag"]
    assert [(item.value, item.count) for item in facet] == [(f"n:{at:02}", 2) for at in range(20)]


async def test_highlights_mark_what_matched(index: SearchIndex) -> None:
    await fill(index, CORPUS)

    async def marked(text: str) -> list[str]:
        page = await search(index, text)
        return [piece for hit in page.hits for fragment in hit.highlights for piece, matched in fragment if matched]

    assert await marked('"long division"') == ["long", "division"]
    assert await marked("app:tutor divisions -story") == ["division"]
    assert await marked("微积分") == ["微积分"]
    assert await marked("reykjav*") == ["Reykjavik"]
    assert await marked("strasse") == ["Straße"]
    assert await marked("app:tutor") == []
    hit = (await search(index, "refund")).hits[0]
    assert hit.highlights == ((("I want a ", False), ("refund", True), (" for my order", False)),)


async def test_scan_is_in_order_and_limited(index: SearchIndex) -> None:
    logs = [log(f"l{at:04}", "x", ts_ms=NEW_YEAR + at // 7) for at in range(1203)]
    await fill(index, logs[::-1])
    ids = [tagged.log.log_id for tagged in logs]
    assert await scanned_ids(index, "") == ids
    assert await scanned_ids(index, "x", limit=501) == ids[:501]
    assert await scanned_ids(index, "x", limit=0) == []


async def test_scan_sees_one_point_in_time(index: SearchIndex) -> None:
    await fill(index, [log(f"l{at:04}", "x", "old:tag", ts_ms=NEW_YEAR + at) for at in range(1100)])
    seen = []
    async for tagged in index.scan(parse("x"), limit=None):
        if not seen:
            await index.write([log("late", "x", ts_ms=NEW_YEAR + 5000)])
            await index.delete(["l1099"])
            await set_tags(index, "l1098", Tag("new:tag", "person:ann"))
            await index.refresh()
        seen.append(tagged)
    assert [tagged.log.log_id for tagged in seen] == [f"l{at:04}" for at in range(1100)]
    assert {tag.tag for tagged in seen for tag in tagged.tags} == {"old:tag"}
    assert len(await scanned_ids(index, "x")) == 1100


async def test_a_scan_that_is_left_early_lets_go(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    scan = index.scan(parse(""), limit=None)
    assert (await anext(scan)).log.log_id == "calls"
    await scan.aclose()  # type: ignore[attr-defined]
    assert len(await scanned_ids(index, "")) == len(CORPUS)


async def set_tags(index: SearchIndex, log_id: str, *tags: Tag, removed: tuple[str, ...] = ()) -> None:
    read = await stored_log(index, log_id)
    tagged = msgspec.structs.replace(read.tagged, tags=tags, removed=removed)
    (end,) = await index.replace([StoredLog(tagged, read.version)])
    assert end is not None
    assert end.outcome is Outcome.MERGED


async def test_tags_are_replaced_in_search_and_record(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    tags = (Tag("topic:history", "person:ann"), Tag("lang:en", "rule@2"))
    await set_tags(index, "division", *tags, removed=("topic:math",))
    await index.refresh()
    assert await found_ids(index, "tag:topic:history") == ["division"]
    assert await found_ids(index, "tag:topic:math") == ["chinese"]
    assert await found_ids(index, '"long division"') == ["division"]
    stored = await index.get("division")
    assert stored == msgspec.structs.replace(CORPUS[0], tags=tags, removed=("topic:math",))
    await set_tags(index, "division")
    assert [item.outcome for item in await index.write([CORPUS[0]])] == [Outcome.DUPLICATE]
    await index.refresh()
    assert await found_ids(index, "id:division -tag:*") == ["division"]


async def test_a_deleted_log_is_gone_at_once(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    await index.delete(["division", "nobody", ""])
    assert await index.get("division") is None
    assert await found_ids(index, "division") == ["divided"]
    assert (await search(index, "")).total == len(CORPUS) - 1
    assert "division" not in await scanned_ids(index, "")


async def stored_log(index: SearchIndex, log_id: str) -> StoredLog:
    return (await index.stored(log_ids=[log_id], trace_ids=[])).logs[log_id]


async def test_what_is_stored_comes_back_before_refresh_and_the_rest_is_left_out(store: SearchIndex) -> None:
    await store.write(CORPUS[:2])
    await store.put_notes([StoredNote(TraceNote(trace_id="t", user_id="u", metadata={"a.b": "c"}, log_ids=("x",)))])
    found = await store.stored(log_ids=["division", "nobody", "divided"], trace_ids=["none", "t"])
    assert {log_id: stored.tagged for log_id, stored in found.logs.items()} == {
        "division": CORPUS[0],
        "divided": CORPUS[1],
    }
    assert {trace_id: stored.note for trace_id, stored in found.notes.items()} == {
        "t": TraceNote(trace_id="t", user_id="u", metadata={"a.b": "c"}, log_ids=("x",))
    }
    nothing = await store.stored(log_ids=[], trace_ids=[])
    assert (nothing.logs, nothing.notes) == ({}, {})


async def test_many_are_read_at_once(store: SearchIndex) -> None:
    await fill(store, [log(f"l{at}", "x") for at in range(1100)])
    await store.put_notes([StoredNote(TraceNote(trace_id=f"t{at}")) for at in range(1100)])
    ids = [f"l{at}" for at in range(1100)]
    found = await store.stored(log_ids=ids, trace_ids=[f"t{at}" for at in range(1100)])
    assert set(found.logs) == set(ids)
    assert len(found.notes) == 1100


async def test_another_state_of_a_log_takes_its_place_in_search_and_record(store: SearchIndex) -> None:
    await fill(store, CORPUS)
    division, refund = await stored_log(store, "division"), await stored_log(store, "refund")
    grown = log("division", "Explain integration please", "topic:calculus", ts_ms=NEW_YEAR - DAY_MS)
    more = log("refund", "I want a refund and a pony", app="shop")
    changed = [StoredLog(grown, division.version), StoredLog(more, refund.version)]
    assert [end and end.outcome for end in await store.replace(changed)] == [Outcome.MERGED, Outcome.MERGED]
    await store.refresh()
    assert await store.get("division") == grown
    assert await found_ids(store, "long") == ["divided"]
    assert await found_ids(store, "tag:topic:calculus ts:2025-12-31") == ["division"]
    assert await found_ids(store, "pony") == ["refund"]
    assert (await scanned_ids(store, ""))[0] == "division"
    assert (await search(store, "")).total == len(CORPUS)


async def test_a_log_that_changed_meanwhile_is_not_replaced(store: SearchIndex) -> None:
    await fill(store, CORPUS)
    read = await stored_log(store, "division")
    await set_tags(store, "division", Tag("topic:history", "person:ann"))
    gone = await stored_log(store, "refund")
    await store.delete(["refund"])
    changed = [StoredLog(log("division", "other words"), read.version), StoredLog(log("refund", "back"), gone.version)]
    assert list(await store.replace(changed)) == [None, None]
    await store.refresh()
    assert await store.get("refund") is None
    assert await found_ids(store, "tag:topic:history") == ["division"]
    assert await found_ids(store, "back OR other") == []
    again = await store.replace([StoredLog(changed[0].tagged, (await stored_log(store, "division")).version)])
    assert [end and end.outcome for end in again] == [Outcome.MERGED]


async def test_two_changes_of_one_log_in_one_call_are_one(store: SearchIndex) -> None:
    await fill(store, [log("a", "first")])
    read = await stored_log(store, "a")
    ends = await store.replace([StoredLog(log("a", text), read.version) for text in ("second", "third")])
    assert [end and end.outcome for end in ends] == [Outcome.MERGED, None]
    assert await store.get("a") == log("a", "second")


async def test_a_note_is_put_only_over_the_state_that_was_read(store: SearchIndex) -> None:
    assert list(await store.put_notes([StoredNote(TraceNote(trace_id="t", user_id="a"))])) == [True]
    assert list(await store.put_notes([StoredNote(TraceNote(trace_id="t", user_id="b"))])) == [False]
    read = (await store.stored(log_ids=[], trace_ids=["t"])).notes["t"]
    assert read.note.user_id == "a"
    new = [StoredNote(TraceNote(trace_id="t", user_id=name), read.version) for name in ("c", "d")]
    assert list(await store.put_notes([*new, StoredNote(TraceNote(trace_id="u"))])) == [True, False, True]
    assert (await store.stored(log_ids=[], trace_ids=["t"])).notes["t"].note.user_id == "c"


async def test_a_note_of_a_trace_with_a_very_long_id_is_kept(store: SearchIndex) -> None:
    trace_id = "ü" * 2000
    assert list(await store.put_notes([StoredNote(TraceNote(trace_id=trace_id, user_id="a"))])) == [True]
    assert (await store.stored(log_ids=[], trace_ids=[trace_id])).notes[trace_id].note.user_id == "a"


def feedback(feedback_id: str, **fields: object) -> Feedback:
    return Feedback(**{"feedback_id": feedback_id, "ts_ms": 1, "name": "helpful", **fields})  # type: ignore[arg-type]


async def said(index: SearchIndex, record: LogRecord) -> list[str]:
    await index.refresh()
    return [item.feedback_id for item in await index.feedback_of(record)]


async def test_feedback_is_found_by_the_most_exact_id_that_it_names(store: SearchIndex) -> None:
    one = log("one", "x", response_id="r-1", trace_id="t").log
    two = log("two", "x", response_id="r-2", trace_id="t").log
    items = [
        feedback("of-trace", ts_ms=3, trace_id="t", score=0.5),
        feedback("of-answer", ts_ms=2, response_id="r-1", trace_id="t", label="good"),
        feedback(
            "of-log",
            ts_ms=1,
            log_id="one",
            response_id="r-2",
            trace_id="t",
            correction="better",
            comment="so",
            by="ann",
        ),
        feedback("of-another", log_id="three"),
    ]
    assert [end.outcome for end in await store.add_feedback(items)] == [Outcome.INDEXED] * 4
    assert await said(store, one) == ["of-log", "of-answer", "of-trace"]
    assert await said(store, two) == ["of-trace"]
    assert (await store.feedback_of(one))[0] == items[2]
    assert await said(store, log("four", "x").log) == []
    many = [one, *(log(f"n{number}", "x").log for number in range(150)), two]
    found = await store.feedback_of_each(many)
    assert ([len(of) for of in found], found[0][0]) == ([3, *([0] * 150), 1], items[2])


@pytest.mark.parametrize("comes", ["before its log", "long after it"])
@pytest.mark.parametrize("names", ["log_id", "response_id", "trace_id"])
async def test_a_correction_stands_beside_the_answer_whenever_it_comes(
    store: SearchIndex, names: str, comes: str
) -> None:
    asked = log("one", "x", response_id="r", trace_id="t")
    year_ms = 365 * 86_400_000
    at_ms = asked.log.ts_ms + (year_ms if comes == "long after it" else -year_ms)
    better = feedback("f", ts_ms=at_ms, correction="a better answer", **{names: getattr(asked.log, names)})
    steps = [lambda: store.add_feedback([better]), lambda: store.write([asked])]
    for step in steps if comes == "before its log" else reversed(steps):
        await step()
        await store.refresh()
    for _ in range(2):
        assert await said(store, asked.log) == ["f"]
        assert await store.feedback_of(asked.log) == (better,)
        assert await store.get("one") == asked, "the answer that was given stays"
        (again,) = await store.write([asked])  # a replay
        assert again.outcome is Outcome.DUPLICATE
    grown = log("one", "x, and another part", response_id="r", trace_id="t")
    await store.replace([StoredLog(grown, (await stored_log(store, "one")).version)])
    assert await store.feedback_of(grown.log) == (better,)
    assert await store.get("one") == grown


async def test_feedback_that_comes_again_is_there_once_and_the_later_word_holds(store: SearchIndex) -> None:
    await store.add_feedback([feedback("f", log_id="one", score=1.0)])
    await store.add_feedback([feedback("f", log_id="one", score=1.0), feedback("g", log_id="one")])
    await store.add_feedback([feedback("f", log_id="one", score=0.0)])
    await store.refresh()
    found = {item.feedback_id: item.score for item in await store.feedback_of(log("one", "x").log)}
    assert found == {"f": 0.0, "g": None}


async def test_feedback_that_no_engine_takes_is_rejected_alone(store: SearchIndex) -> None:
    items = [feedback("", log_id="a"), feedback("x" * 600, log_id="a"), feedback("n"), feedback("g", log_id="a")]
    ends = await store.add_feedback([*items, feedback("s", log_id="a", comment="\ud800")])
    assert [end.error_code for end in ends] == ["bad_id", "bad_id", "about_nothing", None, "not_unicode"]
    assert await said(store, log("a", "x").log) == ["g"]


async def test_with_a_log_goes_what_was_said_about_it(store: SearchIndex) -> None:
    one, two = log("one", "x", response_id="r", trace_id="t"), log("two", "x", trace_id="t")
    await store.write([one, two])
    await store.put_notes([StoredNote(TraceNote(trace_id="t", user_id="u", log_ids=("one", "two")))])
    await store.add_feedback(
        [
            feedback("l", log_id="one"),
            feedback("r", response_id="r"),
            feedback("t", trace_id="t"),
            feedback("o", log_id="two"),
        ]
    )
    await store.delete(["one"])
    assert await said(store, one.log) == ["t"]
    assert await said(store, two.log) == ["o", "t"]
    note = (await store.stored(log_ids=[], trace_ids=["t"])).notes["t"].note
    assert note == TraceNote(trace_id="t", user_id="u", log_ids=("two",))
    await store.delete(["two"])
    assert await said(store, two.log) == []
    assert (await store.stored(log_ids=[], trace_ids=["t"])).notes["t"].note == TraceNote(trace_id="t")


async def test_what_was_said_about_answers_and_traces_can_be_forgotten_alone(store: SearchIndex) -> None:
    one, two = log("one", "x", response_id="r", trace_id="t"), log("two", "x", response_id="q", trace_id="u")
    await store.write([one, two])
    note = TraceNote(trace_id="t", user_id="ann", tags=("a",), metadata={"k": "v"}, log_ids=("one",))
    await store.put_notes([StoredNote(note), StoredNote(TraceNote(trace_id="u", user_id="bob"))])
    about = [{"log_id": "one"}, {"response_id": "r"}, {"trace_id": "t"}, {"response_id": "q"}, {"trace_id": "u"}]
    await store.add_feedback([feedback("".join(one.values()), **one) for one in about])
    await store.forget_said(["response:r", "trace:t", "trace:nobody"])
    await store.refresh()
    assert await said(store, one.log) == ["one"], "feedback that names the log goes with it"
    assert await said(store, two.log) == ["q", "u"]
    notes = (await store.stored(log_ids=[], trace_ids=["t", "u"])).notes
    assert notes["t"].note == TraceNote(trace_id="t", log_ids=("one",))
    assert notes["u"].note.user_id == "bob"


async def test_traces_are_found_by_whom_they_name(store: SearchIndex) -> None:
    notes = [
        TraceNote(trace_id="user", user_id='Ann "A" Ô'),
        TraceNote(trace_id="session", session_id='Ann "A" Ô'),
        TraceNote(trace_id="subject", metadata={"subject": 'Ann "A" Ô'}),
        TraceNote(trace_id="other", user_id="Ann", metadata={"note": 'Ann "A" Ô'}),
        TraceNote(trace_id="nobody", log_ids=("one",)),
    ]
    await store.put_notes([StoredNote(note) for note in notes])
    assert sorted(await store.traces_of('Ann "A" Ô')) == ["session", "subject", "user"]
    await store.forget_said(["trace:user", "trace:subject"])
    assert list(await store.traces_of('Ann "A" Ô')) == ["session"]
    assert list(await store.traces_of("")) == []


async def test_setup_can_be_repeated(index: SearchIndex) -> None:
    await fill(index, CORPUS)
    await index.setup()
    await index.ping()
    assert len(await found_ids(index, "")) == len(CORPUS)


async def test_two_projects_do_not_see_each_other(
    index: SearchIndex, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    await fill(index, CORPUS)
    url = request.getfixturevalue("elasticsearch_url") if isinstance(index, ElasticIndex) else f"local:{tmp_path}"
    other = open_index(url, project=f"test-{uuid.uuid4().hex[:12]}")
    await other.setup()
    try:
        assert (await search(other, "")).total == 0
        assert await other.get("division") is None
    finally:
        await other.close()
