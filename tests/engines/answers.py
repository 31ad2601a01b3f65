"""Does an engine answer? Asked over the wire, as any client would."""

import asyncio
import json
import logging
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # while it starts, each refused connection would be an error


def kafka_answers(address: str) -> bool:
    """True if a broker at host:port describes its cluster."""
    with ThreadPoolExecutor(1) as thread:  # a loop of its own: the caller may be inside one
        return thread.submit(lambda: asyncio.run(_describes_cluster(address))).result()


async def _describes_cluster(address: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=3000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()


def elasticsearch_answers(url: str) -> bool:
    """True if a node answers and can take writes."""
    try:
        with urllib.request.urlopen(f"{url}/_cluster/health", timeout=3) as reply:
            return bool(json.load(reply)["status"] in {"green", "yellow"})
    except (urllib.error.URLError, OSError, ValueError):
        return False
