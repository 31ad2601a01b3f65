"""Fixtures that every suite shares."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack

import pytest
from engines import choose
from engines.errors import EngineAbsent
from engines.s3 import make_bucket, s3

LONGEST = ("flow/test_demo.py", "live/*.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that of several processes which share the files none ends late."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if item.path.match(name)), len(LONGEST)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def kafka_url() -> Iterator[str]:
    """A real broker, as `kafka://host:port`. It is shared: give topics names of your own, or expect other tests' messages."""
    yield from _engine("Kafka", choose.kafka)


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """A real Elasticsearch, as `http://host:port`. It is shared: give indices names of your own."""
    yield from _engine("Elasticsearch", choose.elasticsearch)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Mapping[str, str]]:
    """A real S3 server, as the environment by which AWS's clients find it."""
    with s3() as environment:
        yield environment


@pytest.fixture
def bucket(s3_server: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a folder in an empty bucket, which this process's clients find."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    name = f"files-{secrets.token_hex(8)}"
    make_bucket(s3_server, name)
    return f"s3://{name}/tunemill"


def _engine(name: str, start: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with ExitStack() as running:
        try:
            url = running.enter_context(start())
        except EngineAbsent as absent:
            if os.environ.get("CI") == "true":
                pytest.fail(f"no {name} for the live tests: {absent}", pytrace=False)
            pytest.skip(f"no {name}: {absent}")
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what passed tests have counted, and loudly what was not tested, where an engine was missing."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name} {value}")
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "live" in report.keywords]
    if skipped:
        why = "; ".join(sorted({report.longrepr[2].removeprefix("Skipped: ") for report in skipped}))
        line = f"NOT TESTED: {len(skipped)} live tests were skipped: {why}"
        terminalreporter.write_line(" ".join(line.split()), red=True, bold=True)
