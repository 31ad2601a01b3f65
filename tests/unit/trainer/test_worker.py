"""When a worker stops, and that it is alone at work in its folder."""

import fcntl
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tunemill.trainer import worker
from tunemill.trainer.job import FAILED_EXIT, STOPPED_EXIT, Line, Listener, Order, WorkFolder
from tunemill.trainer.recipe import resolve
from tunemill.trainer.worker import StopFlag, main


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    """A folder whose order cannot be carried out: nothing is at its manifest's URL, and no model at its base."""
    folder = WorkFolder(tmp_path / "run-1")
    folder.say_alive()
    order = Order(
        run_id="run-1",
        attempt=1,
        project="default",
        name="d",
        version=1,
        digest="a" * 64,
        manifest_url=str(tmp_path / "none.json"),
        recipe=resolve({"method": "lora", "base": str(tmp_path / "none")}),
        lease_s=0.2,
    )
    folder.order.write_bytes(msgspec.json.encode(order))
    return folder


def last_word(folder: WorkFolder) -> Line:
    return Listener(folder.progress(1)).lines()[-1]


def test_why_it_could_not_is_its_last_word(folder: WorkFolder) -> None:
    assert main(["worker", str(folder.path)]) == FAILED_EXIT
    assert (last_word(folder).kind, last_word(folder).data["code"]) == ("failed", "base_not_found")


def test_a_base_that_is_not_there_is_told_before_torch_is_imported(folder: WorkFolder) -> None:
    code = "import sys; from tunemill.trainer.worker import main; main(sys.argv); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(folder.path)], check=True)
    assert last_word(folder).data["code"] == "base_not_found"


def test_a_base_that_cannot_be_read_is_its_last_word_and_garbage_is_collected_again(
    folder: WorkFolder, tmp_path: Path
) -> None:
    base = tmp_path / "none"
    base.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (base / name).write_text("{}")
    (base / "model.safetensors").mkdir()
    assert main(["worker", str(folder.path)]) == FAILED_EXIT
    assert last_word(folder).data["code"] == "base_not_found"
    assert gc.isenabled()


def test_it_waits_for_a_worker_that_is_still_at_work_and_stops_waiting_when_told(folder: WorkFolder) -> None:
    other = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    folder.stop.touch()
    assert main(["worker", str(folder.path)]) == STOPPED_EXIT
    assert last_word(folder).kind == "stopped"
    folder.stop.unlink()
    os.close(other)
    assert main(["worker", str(folder.path)]) == FAILED_EXIT, "it has its turn"


def test_it_stops_once_its_folder_is_another_attempts_though_that_one_is_watched(folder: WorkFolder) -> None:
    stop = StopFlag(folder)
    stop.watch(0.2, attempt=1)
    order = msgspec.json.decode(folder.order.read_bytes(), type=Order)
    folder.order.write_bytes(msgspec.json.encode(msgspec.structs.replace(order, attempt=2)))
    give_up_at = time.monotonic() + 20
    while not stop() and time.monotonic() < give_up_at:
        folder.say_alive()
        time.sleep(0.02)
    assert stop()
    stop.unwatch()


def test_it_does_not_wait_for_ever(folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LONGEST_STOP_S", 0.1)
    monkeypatch.setattr(StopFlag, "watch", lambda *_: None)  # it would end this process
    other = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert main(["worker", str(folder.path)]) == FAILED_EXIT
    os.close(other)
    assert last_word(folder).data["code"] == "worker_died"


def test_it_stops_for_a_file_for_a_signal_and_when_nobody_watches(folder: WorkFolder) -> None:
    stop = StopFlag(folder)
    assert not stop()
    folder.stop.touch()
    assert stop()

    folder.stop.unlink()
    before = signal.getsignal(signal.SIGTERM)
    stop.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert stop()

    unwatched = StopFlag(folder)
    unwatched.watch(0.2, attempt=1)
    for _ in range(8):
        time.sleep(0.05)
        folder.say_alive()
    assert not unwatched()
    while not unwatched():
        time.sleep(0.02)
    unwatched.unwatch()
