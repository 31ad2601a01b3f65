"""Quix Streams' Elasticsearch sink, as its documentation shows it: JSON documents from a topic, the message's key as the id.

    python quix_sink.py HOST:PORT TOPIC ELASTICSEARCH_URL INDEX

Runs in an environment of its own (`quix.txt`). The index is there, with its mapping. Two things are not at Quix's defaults: the
session is long, because the benchmark halts the process while it fills the topic, and it commits each second rather than each
five, because the sink writes when it commits and its last documents would wait.
"""

import sys

from quixstreams import Application
from quixstreams.sinks.community.elasticsearch import ElasticsearchSink


def main(broker: str, topic: str, url: str, index: str) -> None:
    """Sink until it is told to end."""
    app = Application(
        broker_address=broker,
        consumer_group=topic,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        consumer_extra_config={"session.timeout.ms": 300_000},
        loglevel="WARNING",
    )
    documents = app.dataframe(app.topic(topic, value_deserializer="json"))
    documents.sink(ElasticsearchSink(url=url, index=index))
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
