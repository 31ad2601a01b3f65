"""Labelling logs, learning a tag from the labels, and putting it in force, over HTTP."""

from pathlib import Path
from typing import Any

import pytest
from fakes.curator_api import Running, running_api, tagged
from sqlalchemy import Engine, select

from tunemill.curator_api import learned_store
from tunemill.registry import rule_sets
from tunemill.registry.rule_sets import LearnedRef, RuleSet
from tunemill.registry.tables import audit
from tunemill.schemas.learned import Lesson, Model
from tunemill.schemas.records import TaggedLog

TAG = "topic:refund"
FOR, AGAINST = ("refund my order", "money back please", "charged twice refund"), ("change my address", "opening hours")


def some_logs(count: int = 60) -> list[TaggedLog]:
    """Every second one asks for its money."""
    return [
        tagged(f"log-{number}", f"{words(number)} number {'abcdefgh'[number % 8]}", tags=()) for number in range(count)
    ]


def words(number: int) -> str:
    kind = FOR if wants_money(number) else AGAINST
    return kind[number // 2 % len(kind)] + f" {chr(97 + number % 26)}{chr(97 + number // 26)}"


def wants_money(number: int) -> bool:
    return number % 2 == 0


async def label(api: Running, numbers: range) -> dict[str, Any]:
    labels = [{"log_id": f"log-{number}", "tag": TAG, "label": wants_money(number)} for number in numbers]
    answer = await api.client.post("/v1/labels", json={"labels": labels})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def learn(api: Running, **more: Any) -> dict[str, Any]:
    answer = await api.client.post("/v1/learned-tags", json={"tag": TAG, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_labels_put_the_tag_on_and_take_it_off_for_good(tmp_path: Path) -> None:
    async with running_api(tmp_path, *some_logs(4)) as api:
        said = await label(api, range(6))
        found = [await api.index.get(f"log-{number}") for number in range(2)]
    assert said == {"labelled": 4, "missing": ["log-4", "log-5"]}
    assert found[0] is not None and [tag.tag for tag in found[0].tags] == [TAG]
    assert found[1] is not None and (found[1].tags, found[1].removed) == ((), (TAG,))


async def test_a_tag_is_learned_from_what_people_put_in_a_logs_place(tmp_path: Path) -> None:
    async with running_api(tmp_path, *some_logs()) as api:
        await label(api, range(40))
        for number in filter(wants_money, range(40)):
            edit = {"messages": [{"role": "user", "content": f"zebra {words(number)}"}]}
            assert (await api.client.patch(f"/v1/logs/log-{number}", json=edit)).status_code == 200
        learned = await learn(api, precision=0.8)
    assert "zebra" in [word["word"] for word in learned["report"]["words_for"]]


async def test_a_tag_is_learned_measured_and_not_in_force_until_somebody_says_so(tmp_path: Path) -> None:
    async with running_api(tmp_path, *some_logs()) as api:
        await label(api, range(40))
        learned = await learn(api, precision=0.8)
        listed = (await api.client.get("/v1/learned-tags")).json()["learned_tags"]
        one = (await api.client.get(f"/v1/learned-tags/{TAG}")).json()
        before = rule_sets.in_force(api.registry, "default")
        enabled = (await api.client.post(f"/v1/learned-tags/{TAG}/enable", json={})).json()
        after = rule_sets.in_force(api.registry, "default")
        shown = (await api.client.get(f"/v1/learned-tags/{TAG}")).json()
        with api.registry.connect() as connection:
            acts = connection.scalars(select(audit.c.action).order_by(audit.c.seq)).all()
    assert {name: learned[name] for name in ("tag", "version", "in_force", "missing", "left_out")} == {
        "tag": TAG,
        "version": 1,
        "in_force": None,
        "missing": 0,
        "left_out": 0,
    }
    report = learned["report"]
    assert (report["yes"], report["no"], report["wanted_precision"]) == (20, 20, 0.8)
    assert report["held_out"]["precision"]["share"] > 0.8 and report["held_out"]["recall"]["share"] > 0.8
    assert "refund" in [word["word"] for word in report["words_for"]]
    assert [one] == listed == [{name: learned[name] for name in one}]
    assert (before.revision, before.learned) == (0, ())
    assert enabled == {"tag": TAG, "in_force": 1, "revision": 1}
    assert (after.learned, after.document) == ((LearnedRef(TAG, 1),), None)
    assert shown["in_force"] == 1
    assert [act for act in acts if act.startswith(("tag.", "rules."))] == ["tag.learn", "rules.put"]


async def test_what_is_in_force_sets_the_tag_on_history_by_the_same_function(tmp_path: Path) -> None:
    async with running_api(tmp_path, *some_logs()) as api:
        await label(api, range(40))
        await learn(api)
        tried = (await api.client.post(f"/v1/learned-tags/{TAG}/dry-run", json={})).json()
        nothing = await api.index.get("log-50")
        await api.client.post(f"/v1/learned-tags/{TAG}/enable", json={})
        again = (await api.client.post("/v1/rules/dry-run", json={})).json()
    assert tried["version"] == 1 and tried["looked_at"] == 60
    effect = tried["effect"]
    assert effect["kept"]["count"] == 20  # those that a person labelled with it
    assert effect["removed"]["count"] == 0
    assert effect["added"]["count"] == 10
    assert set(effect["added"]["log_ids"]) <= {f"log-{number}" for number in range(40, 60, 2)}
    assert nothing is not None and nothing.tags == ()
    assert effect in again["tags"]


async def test_a_newer_version_takes_the_place_of_an_older_one_and_other_tags_stay(tmp_path: Path) -> None:
    async with running_api(tmp_path, *some_logs()) as api:
        await label(api, range(40))
        await learn(api)
        assert (await learn(api))["version"] == 2
        one = learned_store.find(api.registry, "default", TAG)
        assert one is not None and learned_store.newest(api.registry, "default") == [one]
        path = f"/v1/learned-tags/{TAG}"
        rule_sets.put(api.registry, "default", by="person:x", document="rules: []", learned=[LearnedRef("topic:x", 7)])
        states = []
        for step, body in (
            ("enable", {"version": 1}),
            ("enable", {}),
            ("enable", {}),
            ("disable", None),
            ("disable", None),
        ):
            answer = await api.client.post(f"{path}/{step}", json=body)
            now = rule_sets.in_force(api.registry, "default")
            assert now.document == "rules: []"
            assert answer.json()["revision"] == now.revision
            states.append((now.revision, [(ref.tag, ref.version) for ref in now.learned]))
    other = ("topic:x", 7)
    assert states == [
        (2, [(TAG, 1), other]),
        (3, [(TAG, 2), other]),
        (3, [(TAG, 2), other]),  # what is so already is no change
        (4, [other]),
        (4, [other]),
    ]


async def test_a_version_is_tried_in_place_of_the_one_in_force(tmp_path: Path) -> None:
    async with running_api(tmp_path, *some_logs()) as api:
        await label(api, range(40))
        await learn(api)
        good = learned_store.find(api.registry, "default", TAG)
        assert good is not None
        greedy = Lesson(Model({}, bias=0.0, threshold=-1.0), good.report)  # every log gets the tag
        learned_store.keep(api.registry, "default", TAG, greedy, by="person:x")
        await api.client.post(f"/v1/learned-tags/{TAG}/enable", json={"version": 2})
        tried = [
            (await api.client.post(f"/v1/learned-tags/{TAG}/dry-run", json=body)).json()
            for body in ({"version": 1}, {})
        ]
    assert [(one["version"], one["effect"]["added"]["count"]) for one in tried] == [(1, 10), (2, 20)]


async def test_rules_that_are_applied_meanwhile_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_api(tmp_path) as api:
        looked = rule_sets.in_force

        def somebody_is_faster(engine: Engine, project: str) -> RuleSet:
            found = looked(engine, project)
            if found.revision == 0:
                rule_sets.put(engine, project, by="person:y", document="rules: []", learned=[LearnedRef("topic:x", 1)])
            return found

        monkeypatch.setattr(rule_sets, "in_force", somebody_is_faster)
        made = learned_store.put_in_force(api.registry, "default", TAG, 4, by="person:x")
    assert made.document == "rules: []"
    assert (made.revision, made.learned) == (2, (LearnedRef(TAG, 4), LearnedRef("topic:x", 1)))


async def test_the_last_label_of_a_log_counts_and_erased_logs_teach_nothing(tmp_path: Path) -> None:
    async with running_api(tmp_path, *some_logs()) as api:
        await label(api, range(40))
        await api.client.post("/v1/logs/log-0/tags", json={"remove": [TAG]})
        await api.client.delete("/v1/logs/log-2")
        await api.index.delete(["log-4"])  # gone without an erasure
        learned = await learn(api)
    assert (learned["report"]["yes"], learned["report"]["no"], learned["missing"]) == (17, 21, 1)


async def test_too_few_labels_are_refused_with_a_reason(tmp_path: Path) -> None:
    async with running_api(tmp_path, *some_logs()) as api:
        await label(api, range(12))
        answer = await api.client.post("/v1/learned-tags", json={"tag": TAG})
        listed = (await api.client.get("/v1/learned-tags")).json()
    assert answer.status_code == 422
    assert "6 logs are labelled as having the tag; at least 10 are needed" in answer.json()["detail"]
    assert listed == {"learned_tags": []}


async def test_what_was_not_learned_is_not_found(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        path = "/v1/learned-tags/topic:none"
        answers = [await api.client.get(path), await api.client.get(path, params={"version": 1})]
        answers += [await api.client.post(f"{path}/{act}", json={}) for act in ("enable", "disable", "dry-run")]
        bad = await api.client.get("/v1/learned-tags/none")
    assert [answer.status_code for answer in answers] == [404] * 5
    assert bad.status_code == 422
    assert "a tag is `namespace:value`" in bad.text
