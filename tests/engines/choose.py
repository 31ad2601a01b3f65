"""Which real engine the tests and benchmarks use: the one that the environment names, else Maven's, else Docker's."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from engines import docker, maven
from engines.answers import elasticsearch_answers, kafka_answers
from engines.errors import EngineAbsent, EngineDidNotStart

KAFKA_VARIABLE = "TUNEMILL_TEST_KAFKA_URL"
ELASTICSEARCH_VARIABLE = "TUNEMILL_TEST_ELASTICSEARCH_URL"


@contextmanager
def kafka() -> Iterator[str]:
    """A `kafka://` URL that answers.

    Raises:
        EngineAbsent: there is no way to have one here; the message lists what each way lacks.
        EngineDidNotStart: there was a way, and it failed.
    """
    if url := os.environ.get(KAFKA_VARIABLE):
        _require(KAFKA_VARIABLE, kafka_answers(url.removeprefix("kafka://")))
        yield url
    else:
        with _first([maven.start_kafka, docker.start_kafka]) as url:
            yield url


@contextmanager
def elasticsearch() -> Iterator[str]:
    """An `http://` URL of an Elasticsearch that answers.

    Raises:
        EngineAbsent: there is no way to have one here; the message lists what each way lacks.
        EngineDidNotStart: there was a way, and it failed.
    """
    if url := os.environ.get(ELASTICSEARCH_VARIABLE):
        _require(ELASTICSEARCH_VARIABLE, elasticsearch_answers(url))
        yield url
    else:
        with _first([maven.start_elasticsearch, docker.start_elasticsearch]) as url:
            yield url


def _require(variable: str, answered: bool) -> None:
    if not answered:
        raise EngineDidNotStart(f"nothing answers at the URL in {variable}: start it, or unset the variable")


@contextmanager
def _first(ways: Sequence[Callable[[], AbstractContextManager[str]]]) -> Iterator[str]:
    lacking = []
    with ExitStack() as running:
        for start in ways:
            try:
                url = running.enter_context(start())
            except EngineAbsent as absent:
                lacking.append(str(absent))
            else:
                yield url
                return
        raise EngineAbsent("; ".join(lacking))
