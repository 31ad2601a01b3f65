"""Whatever becomes of a worker, its run is in one clear state that says what a person should do."""

import asyncio
import errno
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.scripted_launcher import Attempt, ScriptedLauncher, line
from msgspec.structs import asdict
from prometheus_client import REGISTRY
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import OperationalError

from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import datasets, now_ms, run_events, runs, versions
from tunemill.trainer import supervise as module
from tunemill.trainer.claim import claim_next, insert_run
from tunemill.trainer.errors import DiskFull, Diverged, LauncherAway, OutOfMemory, TrainerError
from tunemill.trainer.identity import Identity
from tunemill.trainer.job import Line, Speaker, WorkFolder
from tunemill.trainer.launch import Ended
from tunemill.trainer.publish import write_manifest
from tunemill.trainer.recipe import resolve, spelled
from tunemill.trainer.supervise import Workshop, supervise

KILLED = Ended(exit_code=-9, said="signal 9")
FAILED = Ended(exit_code=1, said="exit code 1")
ORDERED = Identity(weights="w", tokenizer="t", template=None, replay=None, retention="r")
DONE = line("done", "succeeded", result={"after": {}}, trained_tokens=1, seconds=1.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    monkeypatch.setattr(module, "STORE_AGAIN_S", (0.01, 0.01))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    recipe = spelled(resolve({"method": "lora", "base": "/models/x"}))
    values = {"run_id": "r1", "run_key": "k1", "project": "default", "name": "d", "version": 1, "digest": "a" * 64}
    values |= {"manifest_url": "m", "recipe": recipe, "status": "queued", "attempt": 0, "event_seq": 0}
    values |= {"identity": asdict(ORDERED)}
    insert_run(engine, values | {"created_ms": now_ms()}, "added")
    yield engine
    engine.dispose()


def shop(engine: Engine, launcher: ScriptedLauncher, tmp_path: Path, lease_s: float = 60.0) -> Workshop:
    files = str(tmp_path / "files")
    return Workshop(engine=engine, launcher=launcher, work=tmp_path / "work", files_url=files, lease_s=lease_s)


async def attempt(given: Workshop, stop: asyncio.Event | None = None, lease_ms: int = 60_000) -> Any:
    """Claim the run and bring the attempt to its end; the run as it is then."""
    claim = claim_next(given.engine, "us", lease_ms=lease_ms)
    assert claim is not None
    await supervise(given, claim, env={"CUDA_VISIBLE_DEVICES": "3"}, stop=stop or asyncio.Event())
    return row(given.engine)


def row(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.execute(select(runs)).mappings().one()


def events(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(run_events).order_by(run_events.c.seq)).mappings())


def last_word(error: TrainerError) -> Line:
    return line("failed", error.message, code=error.code, remedy=error.remedy, retryable=error.retryable)


def write_artefact(folder: WorkFolder) -> None:
    folder.artefact.mkdir(parents=True, exist_ok=True)
    (folder.artefact / "report.md").write_text("# Run")
    write_manifest(folder.artefact, {"run_id": "r1"})


async def test_what_the_worker_says_is_the_runs_and_its_plan_is_kept(engine: Engine, tmp_path: Path) -> None:
    def prepare(folder: WorkFolder) -> None:
        write_artefact(folder)
        folder.plan.write_bytes(msgspec.json.encode({"steps": 4}))
        folder.checkpoints.mkdir()

    says = [line("warn", "a damaged checkpoint"), line("status", "running"), line("metrics", "step 1", step=1), DONE]
    launcher = ScriptedLauncher(Attempt(says, first=prepare))
    with engine.begin() as connection:
        owner = {"project": "default", "name": "d", "draft": {}, "created_ms": 1}
        version = {
            "version": 1,
            "digest": "a" * 64,
            "manifest_url": "m",
            "rows": 1,
            "splits": {},
            "report": {},
            "by": "us",
        }
        connection.execute(insert(datasets).values(**owner, updated_ms=1))
        connection.execute(insert(versions).values(**owner, **version, revision=2))
    run = await attempt(shop(engine, launcher, tmp_path))

    assert (run["status"], run["plan"], run["progress"]) == ("succeeded", {"steps": 4}, {"step": 1})
    assert run["launcher"] == "scripted r1-1"
    assert (launcher.orders[0].identity, launcher.orders[0].revision) == (ORDERED, 2)
    told = [(event["type"], event["level"], event["message"]) for event in events(engine)]
    assert ("message", "warn", "a damaged checkpoint") in told
    assert ("metrics", "info", "step 1") in told
    folder = WorkFolder(tmp_path / "work" / "r1")
    assert folder.log(1).read_text() == "output of r1-1", "what its engine kept is beside the run's other logs"
    left = [path.exists() for path in (folder.checkpoints, folder.artefact, folder.tmp, folder.stop)]
    assert left == [False] * 4


async def test_a_torn_line_of_the_worker_is_told_and_the_rest_is_heard(engine: Engine, tmp_path: Path) -> None:
    def tear(folder: WorkFolder) -> None:
        write_artefact(folder)
        folder.progress(1).write_bytes(b'{"ts_ms": 1, "kind": "messa\n')

    run = await attempt(shop(engine, ScriptedLauncher(Attempt([DONE], first=tear)), tmp_path))

    assert run["status"] == "succeeded"
    assert [event["level"] for event in events(engine) if "torn" in event["message"]] == ["warn"]


async def test_metrics_tell_what_runs_took_and_what_they_were_trained_on(engine: Engine, tmp_path: Path) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    stages = ("preparing", "running", "evaluating")
    before = [value("tunemill_run_seconds_total", stage=stage) for stage in stages]
    tokens = value("tunemill_train_tokens_total")
    says = [line("status", "running"), line("status", "evaluating"), DONE]
    await attempt(shop(engine, ScriptedLauncher(Attempt(says, first=write_artefact)), tmp_path))

    after = [value("tunemill_run_seconds_total", stage=stage) for stage in stages]
    assert all(now > was for now, was in zip(after, before, strict=True))
    assert value("tunemill_train_tokens_total") == tokens + 1


async def test_a_worker_is_told_its_devices_and_a_scratch_folder_of_its_own(engine: Engine, tmp_path: Path) -> None:
    launcher = ScriptedLauncher(Attempt([DONE], first=write_artefact))
    await attempt(shop(engine, launcher, tmp_path))

    (job,) = launcher.jobs
    scratch = str(tmp_path / "work" / "r1" / "tmp")
    assert job.env == {"TMPDIR": scratch, "HF_DATASETS_CACHE": scratch, "CUDA_VISIBLE_DEVICES": "3"}
    assert (job.job_id, job.folder) == ("r1-1", tmp_path / "work" / "r1")


async def test_out_of_memory_is_tried_again_with_less_at_once(engine: Engine, tmp_path: Path) -> None:
    said = Attempt([last_word(OutOfMemory("the GPU is full", "take less"))], ends=FAILED)
    killed = Attempt(ends=Ended(exit_code=-9, said="signal 9", out_of_memory=True))
    launcher = ScriptedLauncher(said, killed, Attempt(ends=KILLED))
    given = shop(engine, launcher, tmp_path)
    first, second, third = [await attempt(given) for _ in range(3)]

    assert [order.squeeze for order in launcher.orders] == [0, 1, 2]
    assert [run["status"] for run in (first, second, third)] == ["queued", "queued", "failed"]
    assert [run["error"]["code"] for run in (first, second, third)] == ["out_of_memory", "out_of_memory", "worker_died"]
    assert second["error"]["remedy"].startswith("lower max_length_tokens")
    reasons = [event for event in events(engine) if "it is tried again" in event["message"]]
    assert [event["data"]["code"] for event in reasons] == ["out_of_memory", "out_of_memory"]
    assert "the GPU is full" in reasons[0]["message"]


@pytest.mark.parametrize("error", [DiskFull("no room is left", "make room"), Diverged("no number", "lower it")])
async def test_what_another_attempt_cannot_help_ends_the_run_and_keeps_its_checkpoints(
    engine: Engine, tmp_path: Path, error: TrainerError
) -> None:
    def checkpoint(folder: WorkFolder) -> None:
        folder.checkpoints.mkdir()
        folder.before.write_text("answers")

    launcher = ScriptedLauncher(Attempt([last_word(error)], ends=FAILED, first=checkpoint))
    run = await attempt(shop(engine, launcher, tmp_path))

    assert (run["status"], run["attempt"]) == ("failed", 1)
    assert (run["error"]["code"], run["error"]["remedy"]) == (error.code, error.remedy)
    folder = WorkFolder(tmp_path / "work" / "r1")
    assert (folder.checkpoints.exists(), folder.before.exists()) == (True, False)


async def test_a_full_disk_is_told_though_the_worker_could_not_say_so(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = msgspec.defstruct("Usage", ["total", "used", "free"])
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _path: usage(2**30, 2**30, 0))
    run = await attempt(shop(engine, ScriptedLauncher(Attempt(ends=FAILED)), tmp_path))

    assert (run["status"], run["error"]["code"]) == ("failed", "disk_full")
    assert "runs resume" in run["error"]["remedy"]


async def test_results_that_find_no_room_end_the_run(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "upload", full)
    run = await attempt(shop(engine, ScriptedLauncher(Attempt([DONE], first=write_artefact)), tmp_path))

    assert (run["status"], run["error"]["code"]) == ("failed", "disk_full")


async def test_a_result_waits_for_the_store_and_costs_no_attempt(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = module.upload
    away, erased = iter((True, True, False, True)), iter((False, True))  # once more, after an erasure meanwhile

    def sometimes(*args: Any, **more: Any) -> str:
        if next(away, False):
            raise ConnectionError("no route")
        return store(*args, **more)

    def show_rows(folder: WorkFolder) -> None:
        folder.artefact.mkdir()
        (folder.artefact / "samples.jsonl").write_text('{"row_id": "erased"}\n')
        write_manifest(folder.artefact, {"run_id": "r1"})

    monkeypatch.setattr(module, "upload", sometimes)
    monkeypatch.setattr(module, "is_redacted", lambda *_: next(erased))
    run = await attempt(shop(engine, ScriptedLauncher(Attempt([DONE], first=show_rows)), tmp_path))

    assert (run["status"], run["attempt"], run["error"]) == ("succeeded", 1, None)
    assert "erased" not in (Path(run["artefact_url"]) / "samples.jsonl").read_text()


async def test_results_that_cannot_be_stored_cost_an_attempt_at_once_and_say_why(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(module, "upload", away)
    given = shop(engine, ScriptedLauncher(*[Attempt([DONE], first=write_artefact)] * 3), tmp_path)
    for status in ("queued", "queued", "failed"):
        with pytest.raises(ConnectionError):
            await attempt(given)
        run = row(engine)
        assert (run["status"], run["error"]["code"], run["lease_owner"]) == (status, "internal", None)
        assert "ConnectionError" in run["error"]["message"]
        assert status != "queued" or (given.work / "r1" / "artefact").exists()
    assert not (given.work / "r1" / "artefact").exists(), "it is over"


async def test_who_has_lost_the_lease_stores_no_result(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_over(*_: Any) -> bool:
        with engine.begin() as connection:
            connection.execute(update(runs).values(attempt=2, lease_owner="another"))
        return False

    monkeypatch.setattr(module, "is_redacted", taken_over)  # the last thing before
    await attempt(shop(engine, ScriptedLauncher(Attempt([DONE], first=write_artefact)), tmp_path))

    assert not (tmp_path / "files").exists()
    assert row(engine)["lease_owner"] == "another"


async def test_a_cancel_lets_the_worker_stop_by_itself(engine: Engine, tmp_path: Path) -> None:
    def cancel(_folder: WorkFolder) -> None:
        with engine.begin() as connection:
            connection.execute(update(runs).values(cancel_requested_ms=1))

    launcher = ScriptedLauncher(Attempt(ends=None, first=cancel))
    run = await attempt(shop(engine, launcher, tmp_path))

    assert run["status"] == "cancelled"
    assert launcher.said == ["submit r1-1"]


async def test_a_worker_that_does_not_stop_is_ended_and_a_shutdown_is_nobodys_failure(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.05)
    stop = asyncio.Event()
    stop.set()
    launcher = ScriptedLauncher(Attempt(ends=None, heeds_stop=False))
    run = await attempt(shop(engine, launcher, tmp_path), stop)

    assert (run["status"], run["error"]) == ("queued", None)
    assert launcher.said[:2] == ["submit r1-1", "stop r1-1"]


async def test_a_stop_that_was_asked_for_earlier_does_not_stop_the_next_attempt(engine: Engine, tmp_path: Path) -> None:
    asked: list[bool] = []

    def look(folder: WorkFolder) -> None:
        asked.append(folder.stop.exists())
        write_artefact(folder)

    stop = asyncio.Event()
    stop.set()
    launcher = ScriptedLauncher(Attempt(ends=None), Attempt([DONE], first=look))
    given = shop(engine, launcher, tmp_path)
    assert (await attempt(given, stop))["status"] == "queued"
    assert WorkFolder(tmp_path / "work" / "r1").stop.exists()
    assert (await attempt(given))["status"] == "succeeded"
    assert asked == [False]


async def test_who_takes_a_run_over_first_ends_the_job_of_the_attempt_before(engine: Engine, tmp_path: Path) -> None:
    launcher = ScriptedLauncher(Attempt(ends=None, heeds_stop=False), Attempt([DONE], first=write_artefact))
    given = shop(engine, launcher, tmp_path)
    silent = claim_next(engine, "a", lease_ms=-1)
    assert silent is not None
    job = module._job(given, silent, WorkFolder(given.work / "r1"), {})
    await launcher.submit(job)
    run = await attempt(given)

    assert (run["status"], run["attempt"]) == ("succeeded", 2)
    assert launcher.said == ["submit r1-1", "stop r1-1", "submit r1-2"]


async def test_what_a_worker_said_after_its_trainer_had_died_is_told_once(engine: Engine, tmp_path: Path) -> None:
    again = [line("metrics", "step 3", step=3), DONE]
    launcher = ScriptedLauncher(Attempt(says=[line("metrics", "step 1", step=1)]), Attempt(), Attempt(again))
    launcher.script[-1].first = write_artefact
    given = shop(engine, launcher, tmp_path)
    await attempt(given)
    with closing(Speaker(WorkFolder(given.work / "r1").progress(1))) as unheard:
        unheard.say("warn", "a checkpoint is damaged")
        unheard.say("metrics", "step 2", step=2)
        unheard.say("stopped", "stopped after step 2")
    await attempt(given)
    run = await attempt(given)

    assert run["status"] == "succeeded"
    told = [event["message"] for event in events(engine) if event["type"] == "metrics" or event["level"] == "warn"]
    assert told == ["step 1", "a checkpoint is damaged", "step 2", "step 3"]


async def test_a_worker_whose_lease_is_lost_is_ended_and_nothing_is_written(engine: Engine, tmp_path: Path) -> None:
    def take_over(_folder: WorkFolder) -> None:
        with engine.begin() as connection:
            connection.execute(update(runs).values(attempt=2, lease_owner="another"))

    launcher = ScriptedLauncher(Attempt(ends=None, heeds_stop=False, first=take_over))
    run = await attempt(shop(engine, launcher, tmp_path))

    assert (run["status"], run["lease_owner"], run["attempt"]) == ("preparing", "another", 2)
    assert launcher.said == ["submit r1-1", "stop r1-1"]


async def test_a_registry_that_is_away_for_a_while_costs_no_attempt_and_tells_nothing_twice(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = {name: iter((True, True, False, True)) for name in ("note", "move", "started_by")}

    def sometimes(name: str, write: Any) -> Any:
        def write_or_fail(*args: Any, **more: Any) -> Any:
            if next(failing[name], False):
                raise OperationalError("", {}, ConnectionError("no route"))
            return write(*args, **more)

        return write_or_fail

    for name in failing:
        monkeypatch.setattr(module, name, sometimes(name, getattr(module, name)))
    says = [line("message", "first"), line("status", "running"), line("metrics", "step 1", step=1), DONE]
    run = await attempt(shop(engine, ScriptedLauncher(Attempt(says, first=write_artefact)), tmp_path))

    assert (run["status"], run["attempt"], run["progress"]) == ("succeeded", 1, {"step": 1})
    told = [event["message"] for event in events(engine)]
    assert [told.count(text) for text in ("first", "the run is running", "step 1", "the run succeeded")] == [1] * 4


async def test_where_no_worker_can_be_started_the_run_waits_and_has_not_failed(engine: Engine, tmp_path: Path) -> None:
    launcher = ScriptedLauncher()
    launcher.away = True
    with pytest.raises(LauncherAway):
        await attempt(shop(engine, launcher, tmp_path))

    run = row(engine)
    assert (run["status"], run["error"], run["lease_owner"]) == ("queued", None, None)


async def test_an_engine_that_answers_no_more_for_a_lease_has_lost_the_worker(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.05)
    launcher = ScriptedLauncher(Attempt(ends=None))

    class Gone(ScriptedLauncher):
        async def poll(self, job_id: str) -> Ended | None:
            raise LauncherAway("nobody answers")

    launcher.poll = Gone().poll  # type: ignore[method-assign]
    with pytest.raises(LauncherAway, match="nobody answers"):
        await attempt(shop(engine, launcher, tmp_path, lease_s=0.2))

    assert row(engine)["status"] == "queued"
