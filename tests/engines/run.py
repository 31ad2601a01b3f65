"""Start both engines for a developer's shell: `python tests/engines/run.py`, then paste the line it prints. Ctrl-C ends them."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engines.maven import start_elasticsearch, start_kafka


def main() -> None:
    """Run both until interrupted or terminated."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with start_kafka() as kafka, start_elasticsearch() as elasticsearch:
        print(f"export TUNEMILL_TEST_KAFKA_URL={kafka} TUNEMILL_TEST_ELASTICSEARCH_URL={elasticsearch}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr)


if __name__ == "__main__":
    main()
