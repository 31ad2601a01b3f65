"""Fixtures that every suite shares."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest
from engines import choose
from engines.errors import EngineAbsent

ABSENT = pytest.StashKey[dict[str, str]]()  # engine -> why it could not be had


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def kafka_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """A real broker, as `kafka://host:port`. It is shared: give topics names of your own, or expect other tests' messages."""
    yield from _engine(pytestconfig, "Kafka", choose.kafka)


@pytest.fixture(scope="session")
def elasticsearch_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """A real Elasticsearch, as `http://host:port`. It is shared: give indices names of your own."""
    yield from _engine(pytestconfig, "Elasticsearch", choose.elasticsearch)


def _engine(config: pytest.Config, name: str, start: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with ExitStack() as running:
        try:
            url = running.enter_context(start())
        except EngineAbsent as absent:
            if os.environ.get("CI") == "true":
                pytest.fail(f"no {name} for the live tests: {absent}", pytrace=False)
            config.stash.setdefault(ABSENT, {})[name] = str(absent)
            pytest.skip(f"no {name}: {absent}")
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly what was not tested, where an engine was missing."""
    absent = config.stash.get(ABSENT, {})
    if absent:
        skipped = sum("live" in report.keywords for report in terminalreporter.stats.get("skipped", []))
        why = "; ".join(f"no {name} ({reason})" for name, reason in absent.items())
        line = f"NOT TESTED: {skipped} live tests of this project on real {' and '.join(absent)} were skipped: {why}"
        terminalreporter.write_line(" ".join(line.split()), red=True, bold=True)
