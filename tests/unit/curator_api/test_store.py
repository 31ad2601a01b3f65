"""Files that are written once."""

import threading
from pathlib import Path
from typing import Any

import pytest

from tunemill.curator_api.errors import DamagedFile, Unavailable
from tunemill.curator_api.store import AlreadyDifferent, Files


@pytest.fixture(params=["local", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return Files(str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket"))


def test_of_many_writers_of_one_name_one_has_it(files: Files) -> None:
    refused: list[int] = []

    def write(number: int) -> None:
        try:
            files.put("parts/a", b"%d" % number)
        except AlreadyDifferent:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7
    assert int(files.read("parts/a")) not in refused


def test_who_puts_a_name_at_the_same_moment_as_another_has_what_they_wrote(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 may answer 409 to one of them."""
    files = Files(bucket)
    put = files._fs.pipe_file

    def conflict(path: str, content: bytes, **more: Any) -> None:
        put(path, content, **more)
        raise OSError("ConditionalRequestConflict")

    monkeypatch.setattr(files._fs, "pipe_file", conflict)
    assert files.put("parts/a", b"one") == files.url("parts/a")
    assert files.put_many({"parts/b": b"two"}) == 0


def test_what_another_process_wrote_is_seen(bucket: str) -> None:
    ours, theirs = Files(bucket), Files(bucket)
    assert ours.list("parts") == []
    theirs.put("parts/a", b"one")
    assert ours.list("parts") == ["parts/a"]
    assert ours.read("parts/a") == b"one"


def test_a_bucket_that_is_not_there_is_unavailable(bucket: str) -> None:
    missing = Files(bucket.replace("files-", "nothing-"))
    with pytest.raises(Unavailable, match="TUNEMILL_FILES_URL"):
        missing.put("parts/a", b"one")
    with pytest.raises(Unavailable, match="TUNEMILL_FILES_URL"):
        missing.put_many({"parts/a": b"one"})


def test_half_of_the_credentials_is_told_without_them(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Unavailable, match=r"\(PartialCredentialsError\)"):
        Files(bucket).put("parts/a", b"one")


def test_many_files_are_written_once(files: Files) -> None:
    assert files.put_many({"parts/a": b"one", "parts/b": b"four", "sources/a": b"x"}) == 8
    assert files.put_many({"parts/b": b"four", "parts/c": b"ab"}) == 2
    assert list(files.read_many(["parts/c", "parts/a", "sources/a"])) == [b"ab", b"one", b"x"]
    assert files.list("parts") == ["parts/a", "parts/b", "parts/c"]
    assert files.put_many({}) == 0


def test_a_name_that_is_taken_by_something_else_is_told(files: Files) -> None:
    files.put("parts/a", b"first")
    with pytest.raises(AlreadyDifferent):
        files.put_many({"parts/b": b"new", "parts/a": b"longer than that"})
    assert files.read("parts/a") == b"first"


def test_what_is_deleted_is_gone(files: Files) -> None:
    files.put_many({"parts/a": b"one", "parts/b": b"two"})
    files.delete(["parts/a", "parts/never"])
    assert files.list("parts") == ["parts/b"]
    with pytest.raises(DamagedFile, match="restore it"):
        list(files.read_many(["parts/b", "parts/a"]))
    assert files.list("nowhere") == []


def test_what_a_killed_writer_left_is_listed(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    files.put("parts/a", b"one")
    (tmp_path / "parts" / ".b.01.tmp").write_bytes(b"half")
    assert files.list("parts") == ["parts/.b.01.tmp", "parts/a"]


def test_a_disk_that_says_no_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "parts").write_bytes(b"a file where a folder should be")
    with pytest.raises(Unavailable, match="TUNEMILL_FILES_URL"):
        Files(str(tmp_path)).put_many({"parts/a": b"one"})
