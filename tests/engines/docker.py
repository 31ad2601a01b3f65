"""Kafka and Elasticsearch from their makers' images, where Maven cannot provide them.

Written from the images' documentation; where it was written there was no Docker engine to run it on.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.answers import elasticsearch_answers, kafka_answers
from engines.errors import EngineAbsent
from engines.process import free_port, running

KAFKA_IMAGE = "apache/kafka:4.4.0"
ELASTICSEARCH_IMAGE = "elasticsearch:9.5.3"
PULL_DEADLINE_S = 900


@contextmanager
def start_kafka() -> Iterator[str]:
    """The `kafka://` URL of a fresh one-node broker that ends with the block.

    Raises:
        EngineAbsent: no Docker engine answers, or the image cannot be had.
        EngineDidNotStart: the message ends with its log.
    """
    port = free_port()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    with (
        _container(KAFKA_IMAGE, port, 9092, settings) as (command, log),
        running(command, log=log, answers=lambda: kafka_answers(f"127.0.0.1:{port}")),
    ):
        yield f"kafka://127.0.0.1:{port}"


@contextmanager
def start_elasticsearch() -> Iterator[str]:
    """The `http://` URL of a fresh one-node server without security that ends with the block.

    Raises:
        EngineAbsent: no Docker engine answers, or the image cannot be had.
        EngineDidNotStart: the message ends with its log.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "discovery.type": "single-node",
        "xpack.security.enabled": "false",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
        "ES_JAVA_OPTS": "-Xms1g -Xmx1g",
    }
    with (
        _container(ELASTICSEARCH_IMAGE, port, 9200, settings) as (command, log),
        running(command, log=log, answers=lambda: elasticsearch_answers(url)),
    ):
        yield url


@contextmanager
def _container(image: str, port: int, inner_port: int, settings: dict[str, str]) -> Iterator[tuple[list[str], Path]]:
    """The command that runs this image in the foreground, and the file for its log."""
    _pull(image)
    environment = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    publish = ["--publish", f"127.0.0.1:{port}:{inner_port}"]
    with tempfile.TemporaryDirectory(prefix="tunemill-engine-") as scratch:
        yield ["docker", "run", "--rm", "--init", *publish, *environment, image], Path(scratch) / "engine.log"


def _pull(image: str) -> None:
    try:
        subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, check=True, timeout=PULL_DEADLINE_S)
    except FileNotFoundError as error:
        raise EngineAbsent("no `docker` on the PATH") from error
    except subprocess.CalledProcessError as error:
        raise EngineAbsent(f"Docker has no {image}: {error.stderr.decode(errors='replace')[-300:].strip()}") from error
