"""Kafka and Elasticsearch as processes on this machine, from the packages that their makers publish to Maven."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.answers import elasticsearch_answers, kafka_answers
from engines.errors import EngineDidNotStart
from engines.jars import elasticsearch_jars, kafka_jars
from engines.java_home import find_java
from engines.process import free_port, running

KAFKA_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
ELASTICSEARCH_SETTINGS = (
    "discovery.type=single-node",
    "network.host=127.0.0.1",
    "cluster.routing.allocation.disk.threshold_enabled=false",  # a full laptop disk is not what the tests are about
)


@contextmanager
def start_kafka(*, heap: str = "512m") -> Iterator[str]:
    """The `kafka://` URL of a fresh one-node broker that ends with the block.

    Raises:
        EngineAbsent: Maven or Java 17 is missing.
        EngineDidNotStart: the message ends with its log.
    """
    java = find_java(at_least=17) / "bin" / "java"
    classpath = f"{kafka_jars()}/*"
    with tempfile.TemporaryDirectory(prefix="tunemill-kafka-", ignore_cleanup_errors=True) as scratch:
        folder, broker, controller = Path(scratch), free_port(), free_port()
        properties, log = folder / "server.properties", folder / "kafka.log"
        properties.write_text(KAFKA_PROPERTIES.format(broker=broker, controller=controller, data=folder / "data"))
        _format([str(java), "-cp", classpath, "kafka.tools.StorageTool"], properties)
        server = [str(java), f"-Xmx{heap}", "-cp", classpath, "kafka.Kafka", str(properties)]
        with running(server, log=log, answers=lambda: kafka_answers(f"127.0.0.1:{broker}")):
            yield f"kafka://127.0.0.1:{broker}"


def _format(tool: list[str], properties: Path) -> None:
    command = [*tool, "format", "--cluster-id", "tunemill-test-engineA", "--config", str(properties)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    if done.returncode:
        raise EngineDidNotStart(f"Kafka could not format its data folder:\n{(done.stdout + done.stderr)[-2000:]}")


@contextmanager
def start_elasticsearch(*, heap: str = "1g") -> Iterator[str]:
    """The `http://` URL of a fresh one-node server that ends with the block. It has no security and no scripts.

    Raises:
        EngineAbsent: Maven or a JDK 21 is missing.
        EngineDidNotStart: the message ends with its log.
    """
    home = find_java(at_least=21, compiler=True)
    parts = elasticsearch_jars(home)
    with tempfile.TemporaryDirectory(prefix="tunemill-elasticsearch-", ignore_cleanup_errors=True) as scratch:
        folder, http, transport = Path(scratch), free_port(), free_port()
        (folder / "config").mkdir()
        (folder / "modules").symlink_to(parts / "modules")
        java = [str(home / "bin" / "java"), f"-Xms{heap}", f"-Xmx{heap}"]
        java += ["--enable-native-access=ALL-UNNAMED", "--add-modules=jdk.incubator.vector"]
        server = [*java, "-cp", f"{parts / 'lib'}/*", "tunemill.testengine.SearchNode", str(folder)]
        ports = [f"http.port={http}", f"transport.port={transport}"]
        url = f"http://127.0.0.1:{http}"
        log = folder / "elasticsearch.log"
        with running([*server, *ELASTICSEARCH_SETTINGS, *ports], log=log, answers=lambda: elasticsearch_answers(url)):
            yield url
