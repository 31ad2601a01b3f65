"""What is read of a version is what its names promise, or an error that says what to do."""

from pathlib import Path

import pytest

from tunemill.curator_api.errors import DamagedFile, Unprocessable
from tunemill.curator_api.published import read_manifest
from tunemill.curator_api.store import Files
from tunemill.schemas.manifest import manifest_digest

OLD = b'{"columns":[],"format":"tunemill-dataset/1","parts":[],"rows":0,"splits":{}}'


def test_a_version_of_the_old_format_says_that_it_has_to_be_published_again(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    files.put(f"d/manifests/{manifest_digest(OLD)}.json", OLD)
    with pytest.raises(Unprocessable, match=r"tunemill-dataset/1.*publish again"):
        read_manifest(files, "d", manifest_digest(OLD))


def test_a_manifest_that_is_gone_or_another_is_damage(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    with pytest.raises(DamagedFile, match="missing"):
        read_manifest(files, "d", "0" * 64)
    files.put(f"d/manifests/{'0' * 64}.json", OLD)
    with pytest.raises(DamagedFile, match="was changed"):
        read_manifest(files, "d", "0" * 64)
