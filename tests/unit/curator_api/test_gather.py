"""What a draft finds: every kind of ingredient, and every reason for which something is left out, over HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import Running, running_api, tagged
from fakes.search_memory import MemorySearch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tunemill.curator_api.settings import Settings
from tunemill.indexer.open import open_index
from tunemill.schemas.records import Edit, Feedback, Message, Said, TaggedLog, ToolCall

EVERY = {"kind": "search", "query": ""}
CORRECTED = Said(name="review", corrected=True)


def call(arguments: str) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(name="add", arguments=arguments),))


def scored(log_id: str, answer: str, score: float | None, *, question: str = "Why?", **more: Any) -> TaggedLog:
    said = () if score is None else (Said(name="grade", score=score),)
    return msgspec.structs.replace(tagged(log_id, question, answer, **more), feedback=said)


def corrected(log_id: str, **more: Any) -> TaggedLog:
    return msgspec.structs.replace(tagged(log_id, **more), feedback=(CORRECTED,))


def said(log_id: str, correction: str | None, ts_ms: int = 1) -> Feedback:
    return Feedback(feedback_id=f"{log_id}-{ts_ms}", ts_ms=ts_ms, name="review", log_id=log_id, correction=correction)


@asynccontextmanager
async def holding(folder: Path, *logs: TaggedLog, **more: Any) -> AsyncIterator[Running]:
    """An API over the embedded index with these logs."""
    async with running_api(folder, *logs, index=open_index(f"local:{folder / 'index'}"), **more) as api:
        yield api


async def begin(api: Running, *ingredients: dict[str, Any], name: str = "d", **more: Any) -> None:
    answer = await api.client.post("/v1/datasets", json={"name": name, "ingredients": list(ingredients), **more})
    assert answer.status_code == 201, answer.text


async def found(api: Running, name: str = "d") -> dict[str, Any]:
    answer = await api.client.get(f"/v1/datasets/{name}/rows?limit=500")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def kept(api: Running, name: str = "d") -> dict[str, str]:
    """The last message of each row."""
    return {row["row_key"]: row["messages"][-1]["content"] for row in (await found(api, name))["rows"]}


async def excluded(folder: Path, *logs: TaggedLog, **recipe: Any) -> dict[str, int]:
    """What is left out of a draft of all of these logs; a log named `good` is the only row there may be."""
    async with holding(folder, *logs) as api:
        await begin(api, EVERY, **recipe)
        answer = await found(api)
        assert {row["row_key"] for row in answer["rows"]} <= {"good"}
        assert answer["matched"] == len(answer["rows"]) + sum(answer["excluded"].values())
        return dict(answer["excluded"])


ALONE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("consent", {"consent": "none"}, {}),
    ("not_tagged", {"tag_status": "failed"}, {}),
    ("secret", {"tags": ("secret:key",)}, {}),
    ("pii", {"tags": ("pii:name",)}, {}),
    ("status_error", {"status": "error"}, {}),
    ("no_answer", {"answer": None}, {}),
    ("not_text", {"messages": (Message(role="user", parts=[{"type": "image_url", "image_url": {"url": "x"}}]),)}, {}),
    ("roles_out_of_order", {"messages": (Message(role="tool", content="4"),)}, {}),
    ("finish_reason", {"finish_reason": "length"}, {"filters": {"finish_reasons": ["stop"]}}),
    ("licence", {}, {"filters": {"licence": "allowed"}}),
    ("broken_arguments", {"output": (call("{"),)}, {}),
    ("broken_arguments", {"output": (call("[1]"),)}, {}),
    ("private", {"question": "I am a@b.org"}, {"filters": {"private_data": "exclude"}}),
    ("private", {"question": "I am [PII:email]"}, {"filters": {"private_data": "exclude"}}),
]


@pytest.mark.parametrize(("reason", "log", "recipe"), ALONE)
async def test_a_log_with_one_fault_is_left_out_for_that(
    tmp_path: Path, reason: str, log: dict[str, Any], recipe: dict[str, Any]
) -> None:
    assert await excluded(tmp_path, tagged("bad", **log), **recipe) == {reason: 1}


async def test_what_is_deleted_erased_or_not_there_is_left_out_for_that(tmp_path: Path) -> None:
    logs = [tagged(name, answer=name) for name in ("good", "gone", "taken")]
    async with holding(tmp_path, *logs) as api:
        await begin(api, {"kind": "logs", "log_ids": ["good", "gone", "nowhere", "taken", "good", "nowhere"]})
        await api.client.delete("/v1/datasets/d/rows/taken")
        await api.client.delete("/v1/logs/gone")
        answer = await found(api)
        assert [row["row_key"] for row in answer["rows"]] == ["good"]
        assert answer["excluded"] == {"deleted_by_person": 1, "erased": 1, "not_found": 1}


async def test_a_reason_that_stands_first_goes_before_the_others(tmp_path: Path) -> None:
    everything = tagged("bad", "I am a@b.org", consent="none", status="error", finish_reason="length")
    recipe = {"filters": {"finish_reasons": ["stop"], "private_data": "exclude"}}
    assert await excluded(tmp_path, everything, **recipe) == {"consent": 1}


async def test_a_log_that_two_ingredients_find_counts_for_the_first(tmp_path: Path) -> None:
    logs = [tagged(name, answer=name, app=app) for name, app in (("a", "web"), ("b", "web"), ("c", "bot"))]
    async with holding(tmp_path, *logs) as api:
        picked = {"kind": "logs", "log_ids": ["a", "c"]}
        await begin(api, {"kind": "search", "query": "app:web", "limit": 1}, picked, EVERY)
        preview = (await api.client.get("/v1/datasets/d/preview")).json()
        assert [one["matched"] for one in preview["ingredients"]] == [2, 1, 0]
        assert preview["report"]["rows"] == 2  # of the first ingredient's two only one
        assert preview["report"]["excluded"] == {"not_sampled": 1}


async def test_a_draft_is_of_one_moment_and_saved_searches_are_spelled_out(tmp_path: Path) -> None:
    async with holding(tmp_path, tagged("a")) as api:
        await api.client.put("/v1/searches/math", json={"query": "tag:topic:math ts:<now"})
        await begin(api, {"kind": "search", "query": "saved:math"})
        preview = (await api.client.get("/v1/datasets/d/preview")).json()
        spelled = preview["recipe"]["ingredients"][0]["query"]
        assert "saved" not in spelled and "now" not in spelled
        assert preview["report"]["rows"] == 1


async def test_the_project_says_whose_answers_may_be_trained_on_and_the_longest_name_holds(tmp_path: Path) -> None:
    models = ("llama-3", "gpt-5", "gpt-5-open", None)
    logs = [tagged(str(model), answer=str(model), model=model) for model in models]
    async with holding(tmp_path, *logs) as api:
        for model, trainable in (("gpt-*", "no"), ("gpt-5-open", "yes"), ("llama*", "yes")):
            put = await api.client.put(f"/v1/licences/{model}", json={"trainable": trainable, "note": "the terms"})
            assert put.json()["trainable"] == trainable
        await begin(api, EVERY)
        await begin(api, EVERY, name="sure", filters={"licence": "allowed"})
        assert set(await kept(api)) == {"llama-3", "gpt-5-open", "None"}
        assert set(await kept(api, "sure")) == {"llama-3", "gpt-5-open"}
        report = (await api.client.get("/v1/datasets/d/preview")).json()["report"]
        assert report["licences"] == {"yes": 2, "unknown": 1}
        assert len((await api.client.get("/v1/licences")).json()["licences"]) == 3
        assert (await api.client.delete("/v1/licences/gpt-*")).status_code == 204
        assert (await api.client.delete("/v1/licences/gpt-*")).status_code == 404
        assert set(await kept(api)) == {"llama-3", "gpt-5", "gpt-5-open", "None"}


@pytest.fixture
def tokenizers(tmp_path: Path) -> Path:
    """One that counts words; its file says, as many do, to cut texts and to fill them up."""
    folder = tmp_path / "tokenizers"
    (folder / "words").mkdir(parents=True)
    words = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    words.enable_truncation(4)
    words.enable_padding()
    words.save(str(folder / "words" / "tokenizer.json"))
    return folder


async def test_rows_are_as_long_as_a_named_tokenizer_says(tmp_path: Path, tokenizers: Path) -> None:
    logs = [tagged(f"w{count}", "one", " ".join(["word"] * (count - 1))) for count in (2, 3, 5, 6)]
    lengths = {"tokenizer": "words", "min_tokens": 3, "max_tokens": 5}
    async with holding(tmp_path, *logs, settings=Settings(tokenizers=tokenizers)) as api:
        await begin(api, EVERY, filters={"lengths": lengths})
        preview = (await api.client.get("/v1/datasets/d/preview")).json()["report"]
        assert set(await kept(api)) == {"w3", "w5"}
        assert preview["excluded"] == {"too_long": 1, "too_short": 1}
        assert (preview["tokens_per_row"]["min"], preview["tokens_per_row"]["total"]) == (3, 8)
        body = {"name": "e", "ingredients": [EVERY], "filters": {"lengths": {"tokenizer": "..", "max_tokens": 5}}}
        assert (await api.client.post("/v1/datasets", json=body)).json()["place"] == "filters.lengths.tokenizer"
        body["filters"] = {"lengths": {"tokenizer": "other", "max_tokens": 5}}
        problem = (await api.client.post("/v1/datasets", json=body)).json()
        (tokenizers / "words" / "tokenizer.json").write_text("{")
        broken = (await api.client.get("/v1/datasets/d/preview")).json()
        assert (broken["place"], broken["status"]) == ("filters.lengths.tokenizer", 422)
        assert (problem["place"], "there are words" in problem["detail"]) == ("filters.lengths.tokenizer", True)


async def test_pseudonyms_are_the_same_within_a_row_and_other_for_other_values(tmp_path: Path) -> None:
    text = "From a@b.org to c@d.org, again A@B.org, call +49 30 901820"
    async with holding(tmp_path, tagged("a", text, "It is c@d.org.")) as api:
        await begin(api, EVERY, filters={"private_data": "pseudonyms"})
        (row,) = (await found(api))["rows"]
        said = " ".join(message["content"] for message in row["messages"])
        assert said == (
            "From [PII:email-1] to [PII:email-2], again [PII:email-1], call [PII:phone-1] It is [PII:email-2]."
        )
        await begin(api, EVERY, name="masked")
        (row,) = (await found(api, "masked"))["rows"]
        assert row["messages"][1]["content"] == "It is [PII:email]."


async def test_a_correction_stands_in_place_of_the_answer_even_of_a_call_that_failed(tmp_path: Path) -> None:
    logs = [
        corrected("right", answer="wrong"),
        corrected("called", output=(call("{}"),)),
        corrected("failed", answer=None, status="error"),
        corrected("hollow", answer="kept"),  # its feedback is gone, or holds nothing
        tagged("plain", answer="plain"),
    ]
    async with holding(tmp_path, *logs) as api:
        await api.index.add_feedback(
            [said("right", "old", 1), said("right", "new", 2), said("right", None, 3), said("failed", "better")]
        )
        await api.index.add_feedback([said("called", "four"), said("hollow", " ")])
        await begin(api, EVERY | {"answer": "corrected"})
        rows = {row["row_key"]: row for row in (await found(api))["rows"]}
        answers = {key: row["messages"][-1]["content"] for key, row in rows.items()}
        assert answers == {"right": "new", "called": "four", "failed": "better", "hollow": "kept", "plain": "plain"}
        assert {key for key, row in rows.items() if row["corrected"]} == {"right", "called", "failed"}
        assert not rows["called"]["messages"][-1]["tool_calls"]
        await begin(api, {"kind": "logs", "log_ids": ["right", "plain"], "answer": "corrected_only"}, name="only")
        assert (await found(api, "only"))["excluded"] == {"not_corrected": 1}


async def test_a_correction_and_the_answer_that_it_corrects_are_a_pair(tmp_path: Path) -> None:
    logs = [
        corrected("wrong", answer="5"),
        corrected("same", answer="4"),
        corrected("failed", answer=None, status="error"),
        tagged("plain", answer="7"),
    ]
    async with holding(tmp_path, *logs) as api:
        await api.index.add_feedback([said(name, "4") for name in ("wrong", "same", "failed")])
        await begin(api, {"kind": "pairs", "query": "", "source": "corrections"}, shape="preference")
        answer = await found(api)
        assert [(row["row_key"], row["messages"][-1]["content"]) for row in answer["rows"]] == [("wrong", "4")]
        assert [message["content"] for message in answer["rows"][0]["rejected"]] == ["5"]
        assert answer["excluded"] == {"duplicate_content": 1, "no_pair": 1, "not_corrected": 1}


async def test_of_the_answers_to_one_prompt_the_best_and_the_worst_are_a_pair(tmp_path: Path) -> None:
    logs = [
        scored("best", "because", 0.9, model="large"),
        scored("middle", "perhaps", 0.5),
        scored("worst", "dunno", 0.1, model="small"),
        scored("unscored", "what", None),
        scored("tie-1", "x", 0.5, question="How?"),
        scored("tie-2", "y", 0.5, question="How?"),
        scored("alone", "z", 0.5, question="When?"),
        scored("private", "never", 1.0, consent="none"),
    ]
    async with holding(tmp_path, *logs) as api:
        pairs = {"kind": "pairs", "query": "", "source": "models", "prefer": "grade"}
        await begin(api, pairs, shape="preference")
        answer = await found(api)
        (row,) = answer["rows"]
        assert (row["row_key"], row["messages"][-1]["content"]) == ("best", "because")
        assert row["rejected"][0]["content"] == "dunno"
        assert answer["excluded"] == {"consent": 1, "no_pair": 4}
        await api.client.put("/v1/licences/small", json={"trainable": "no"})
        assert (await found(api))["excluded"] == {"consent": 1, "licence": 1, "no_pair": 4}
        await api.client.delete("/v1/licences/small")
        await api.client.delete("/v1/logs/worst")
        assert (await found(api))["rows"][0]["rejected"][0]["content"] == "perhaps"


@pytest.mark.parametrize("order", [1, -1])
async def test_a_log_of_which_one_ingredient_makes_no_row_is_there_for_the_next(tmp_path: Path, order: int) -> None:
    logs = [
        corrected("wrong", answer="5", question="2+2?"),
        scored("best", "because", 0.9),
        scored("worst", "dunno", 0.1),
        tagged("kept-out", consent="none"),
    ]
    async with holding(tmp_path, *logs) as api:
        await api.index.add_feedback([said("wrong", "4")])
        sources: list[dict[str, Any]] = [{"source": "corrections"}, {"source": "models", "prefer": "grade"}]
        pairs = [{"kind": "pairs", "query": "", **one} for one in sources][::order]
        await begin(api, *pairs, shape="preference")
        answer = await found(api)
        assert {row["row_key"] for row in answer["rows"]} == {"wrong", "best"}
        assert answer["excluded"]["consent"] == 1  # which both leave out
        assert answer["matched"] == 2 + sum(answer["excluded"].values())


async def test_pseudonyms_are_those_of_the_conversation_from_its_oldest_log_on(tmp_path: Path) -> None:
    turns = {"z": "I am ann@x.org", "m": "Tell bob@x.org, not ann@x.org", "a": "And bob@x.org?"}
    logs = [tagged(one, said, ts_ms=at, session_id="s") for at, (one, said) in enumerate(turns.items(), start=1)]
    logs.append(tagged("other", "And bob@x.org?", session_id="t"))

    async def asked(name: str = "d") -> dict[str, str]:
        return {row["row_key"]: row["messages"][0]["content"] for row in (await found(api, name))["rows"]}

    expected = {
        "z": "I am [PII:email-1]",
        "m": "Tell [PII:email-2], not [PII:email-1]",
        "a": "And [PII:email-2]?",
        "other": "And [PII:email-1]?",
    }
    filters = {"private_data": "pseudonyms"}
    async with holding(tmp_path, *logs) as api:
        await begin(api, EVERY, filters=filters)
        assert await asked() == expected
        picked = [{"kind": "logs", "log_ids": [name]} for name in ("a", "other", "z", "m")]
        await begin(api, *picked, name="picked", filters=filters)
        assert await asked("picked") == expected
        await api.client.post("/v1/datasets/d/versions", json={})
        messages = [{"role": "user", "content": turns["a"]}, {"role": "assistant", "content": "yes"}]
        assert (await api.client.patch("/v1/datasets/d/rows/a", json={"messages": messages})).status_code == 200
        assert (await api.client.post("/v1/datasets/d/versions", json={"amend": "1"})).status_code == 201
        await begin(api, {"kind": "version", "of": "d@v2"}, name="amended")
        assert await asked("amended") == expected


async def test_imported_rows_come_by_their_source_and_those_of_another_shape_are_left_out(tmp_path: Path) -> None:
    line = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    async with holding(tmp_path) as api:
        await begin(api, {"kind": "imported", "source": "b"})
        await begin(api, {"kind": "imported"}, name="all")
        await begin(api, {"kind": "imported"}, name="pairs", shape="preference")
        for name in ("d", "all", "pairs"):
            await api.client.post(f"/v1/datasets/{name}/import?source=a", content=json.dumps(line))
        assert await kept(api) == {}
        assert list((await kept(api, "all")).values()) == ["hello"]
        assert (await found(api, "pairs"))["excluded"] == {"other_shape": 1}


async def test_rows_of_a_version_are_taken_over_as_they_are(tmp_path: Path) -> None:
    logs = [tagged(name, f"What is {name}?", name, app="web", metadata={"age": "old"}) for name in ("a", "b", "c")]
    async with holding(tmp_path, *logs) as api:
        await begin(api, EVERY, slices=["app"], groups=["age"])
        first = (await api.client.post("/v1/datasets/d/versions", json={})).json()
        await begin(api, {"kind": "version", "of": "d@latest"}, name="copy", slices=["app"], groups=["age"])
        assert (await found(api, "copy"))["rows"][0]["slices"] == {"app": "web", "meta:age": "old"}
        copy = (await api.client.post("/v1/datasets/copy/versions", json={})).json()
        assert copy["digest"] == first["digest"]
        assert copy["draft"]["ingredients"][0]["of"] == "d@v1"
        await api.client.delete("/v1/datasets/copy/rows/a")
        await api.client.delete("/v1/logs/b")
        answer = await found(api, "copy")
        assert [row["row_key"] for row in answer["rows"]] == ["c"]
        await begin(api, EVERY, {"kind": "version", "of": "d@v1"}, name="both")
        assert (await found(api, "both"))["matched"] == 3  # a and c by the search, b by the version alone
        await begin(api, {"kind": "version", "of": "nobody@v1"}, name="none")
        gone = await api.client.get("/v1/datasets/none/rows")
        assert (gone.status_code, gone.json()["place"]) == (404, "ingredients[0].of")
        assert gone.json()["detail"].startswith("ingredients[0].of: ")
        unknown = {"decontaminate": {"against": ["d@v1", "nobody@v1"]}}
        await begin(api, EVERY, name="against", filters=unknown)
        gone = await api.client.get("/v1/datasets/against/rows")
        assert (gone.status_code, gone.json()["place"]) == (404, "filters.decontaminate.against[1]")


async def test_one_row_is_found_by_its_key_or_that_of_its_twin(tmp_path: Path) -> None:
    async with holding(tmp_path, tagged("a/b"), tagged("twin"), tagged("other", answer="5")) as api:
        await begin(api, EVERY)
        (row,) = [one for one in (await found(api))["rows"] if one["row_key"] != "other"]
        for key in ("a%2Fb", "twin"):
            assert (await api.client.get(f"/v1/datasets/d/rows/{key}")).json() == row
        assert (await api.client.get("/v1/datasets/d/rows/nobody")).status_code == 404


async def test_what_consent_leaves_out_names_the_remedy(tmp_path: Path) -> None:
    async with holding(tmp_path, tagged("a", consent="none"), tagged("b", consent="none"), tagged("c")) as api:
        await begin(api, EVERY)
        await begin(api, {"kind": "search", "query": "-consent:train"}, name="none")
        warnings = (await api.client.get("/v1/datasets/d/preview")).json()["report"]["warnings"]
        assert any("leaves out 2 of 3" in one and "tunemill bulk consent" in one for one in warnings)
        refused = await api.client.post("/v1/datasets/none/versions", json={})
        assert refused.status_code == 422
        assert "tunemill bulk consent" in refused.json()["detail"]


async def test_a_version_says_from_which_files_its_imported_rows_are(tmp_path: Path) -> None:
    async with holding(tmp_path, tagged("a")) as api:
        await begin(api, EVERY, {"kind": "imported"})
        for source, said in (("x.jsonl", "1"), ("x.jsonl", "2"), ("", "3")):
            line = {"prompt": said, "completion": said}
            await api.client.post(f"/v1/datasets/d/import?source={source}", content=json.dumps(line))
        version = (await api.client.post("/v1/datasets/d/versions", json={})).json()
        assert version["report"]["sources"] == {"(unnamed)": 1, "x.jsonl": 2}
        assert version["lineage"]["imports"] == ["(unnamed)", "x.jsonl"]


async def test_what_a_set_holds_out_is_trained_on_in_no_version(tmp_path: Path) -> None:
    def line(question: str, answer: str) -> str:
        return json.dumps({"prompt": question, "completion": answer})

    async def splits(name: str) -> dict[str, str]:
        return {row["messages"][-1]["content"]: row["split"] for row in (await found(api, name))["rows"]}

    async with holding(tmp_path) as api:
        await begin(api, {"kind": "imported"}, test_share=0)
        for held_out, lines in (("false", [("1", "a"), ("2", "b")]), ("true", [("2", "c"), ("3", "d")])):
            content = "\n".join(line(*one) for one in lines)
            await api.client.post(f"/v1/datasets/d/import?held_out={held_out}", content=content)
        kept = {"a": "train", "b": "test", "c": "test", "d": "test"}  # `b` is asked what `c` is
        assert await splits("d") == kept
        first = (await api.client.post("/v1/datasets/d/versions", json={})).json()
        assert first["splits"] == {"train": 1, "test": 3}
        await begin(api, {"kind": "version", "of": "d@v1"}, name="copy", test_share=0)
        assert await splits("copy") == kept


LONG = "A train leaves the station at nine and travels west at sixty miles each hour until noon"


async def test_what_repeats_an_evaluation_set_is_left_out(tmp_path: Path) -> None:
    logs = [
        tagged("exam", LONG, "180 miles", app="exam"),
        tagged("short", "What is 2+2?", "yes", app="exam"),
        tagged("within", f"Homework: {LONG.upper()}. How far?", "No idea"),
        tagged("answered", "Tell me a story", f"Once, {LONG}."),
        tagged("asked", "what is 2 + 2", "four"),
        tagged("good", "Is that so?", "yes"),
    ]
    async with holding(tmp_path, *logs) as api:
        await begin(api, {"kind": "search", "query": "app:exam"}, name="exam")
        await api.client.post("/v1/datasets/exam/versions", json={})
        await begin(api, {"kind": "search", "query": "-app:exam"}, filters={"decontaminate": {"against": ["exam@v1"]}})
        assert set(await kept(api)) == {"good"}
        report = (await api.client.get("/v1/datasets/d/preview")).json()["report"]
        assert (report["excluded"], report["contamination"]["rows"]) == ({"contaminated": 3}, 3)


async def test_bad_rows_are_listed_with_why_a_page_at_a_time(tmp_path: Path) -> None:
    logs = [tagged(f"e{number}", answer=None) for number in range(3)]
    logs += [tagged("calls", output=(call("{"),)), tagged("good"), tagged("no", consent="none")]
    async with holding(tmp_path, *logs) as api:
        await begin(api, EVERY)
        first = (await api.client.get("/v1/datasets/d/bad-rows?limit=2")).json()
        assert first["counts"] == {"broken_arguments": 1, "no_answer": 3}
        assert [(row["row_key"], row["reason"]) for row in first["rows"]] == [
            ("calls", "broken_arguments"),
            ("e0", "no_answer"),
        ]
        assert "JSON object" in first["rows"][0]["why"]
        rest = (await api.client.get(f"/v1/datasets/d/bad-rows?limit=2&cursor={first['cursor']}")).json()
        assert ([row["row_key"] for row in rest["rows"]], rest["cursor"]) == (["e1", "e2"], None)
        one = (await api.client.get("/v1/datasets/d/bad-rows?reason=broken_arguments")).json()
        assert [row["row_key"] for row in one["rows"]] == ["calls"]
        assert (await api.client.get("/v1/datasets/d/bad-rows?reason=consent")).status_code == 422


async def test_a_query_that_is_run_again_keeps_edits_and_deletions_and_yaml_holds_them(tmp_path: Path) -> None:
    async with holding(tmp_path, tagged("a"), tagged("b", answer="b"), tagged("c", answer="c")) as api:
        await begin(api, EVERY)
        messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
        await api.client.patch("/v1/datasets/d/rows/a", json={"messages": messages})
        await api.client.delete("/v1/datasets/d/rows/b")
        draft = (await api.client.get("/v1/datasets/d/draft")).json()
        assert draft["rows"]["delete"] == ["b"]
        assert draft["rows"]["edit"]["a"]["messages"] == messages
        await api.client.put("/v1/datasets/d/draft", json={"query": "id:a OR id:b"})
        assert await kept(api) == {"a": "So."}
        copy = await api.client.post("/v1/datasets", json={**draft, "name": "copy"})
        assert copy.status_code == 201
        assert await kept(api, "copy") == {"a": "So.", "c": "c"}
        assert (await api.client.get("/v1/datasets/copy/draft")).json() == {**draft, "name": "copy"}
        unknown = {"name": "e", "query": "", "rows": {"delete": ["nowhere"]}}
        assert (await api.client.post("/v1/datasets", json=unknown)).status_code == 404
        assert (await api.client.get("/v1/datasets/e")).status_code == 404


async def test_a_pair_is_edited_on_both_sides(tmp_path: Path) -> None:
    async with holding(tmp_path, corrected("a", answer="5")) as api:
        await api.index.add_feedback([said("a", "4")])
        await begin(api, {"kind": "pairs", "query": "", "source": "corrections"}, shape="preference")
        edit = {
            "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is 4."}],
            "rejected": [{"role": "assistant", "content": "Five?"}],
        }
        assert (await api.client.patch("/v1/datasets/d/rows/a", json=edit)).status_code == 200
        (row,) = (await found(api))["rows"]
        assert (row["messages"][-1]["content"], row["rejected"][0]["content"]) == ("It is 4.", "Five?")
        assert (await api.client.patch("/v1/datasets/d/rows/a", json={"messages": edit["messages"]})).status_code == 200
        (row,) = (await found(api))["rows"]
        assert (row["messages"][-1]["content"], row["rejected"][0]["content"]) == ("It is 4.", "5")


async def test_a_persons_edit_of_a_log_is_what_is_gathered(tmp_path: Path) -> None:
    edited = msgspec.structs.replace(
        tagged("a"), edit=Edit(messages=(Message(role="user", content="Hm?"),), output=(Message(role="assistant", content="Ah."),))
    )  # fmt: skip
    async with running_api(tmp_path, edited, index=MemorySearch()) as api:
        await begin(api, EVERY)
        assert await kept(api) == {"a": "Ah."}


async def test_a_recipe_over_http_says_where_it_is_wrong(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        body = {"name": "d", "ingredients": [EVERY, EVERY | {"take": "best"}]}
        problem = (await api.client.post("/v1/datasets", json=body)).json()
        assert (problem["status"], problem["type"]) == (422, "urn:tunemill:problem:invalid-recipe")
        assert (problem["place"], "'newest'" in problem["detail"]) == ("ingredients[1].take", True)
        body["ingredients"] = [{"kind": "search", "query": "x AND"}]
        problem = (await api.client.post("/v1/datasets", json=body)).json()
        assert (problem["status"], problem["place"], problem["column"]) == (400, "ingredients[0].query", 6)
        assert (
            await api.client.post("/v1/datasets", content=b"{", headers={"content-type": "application/json"})
        ).status_code == 400
