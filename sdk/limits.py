"""How much the SDK takes and sends at a time."""

from tunemill.schemas.topics import LOGS

MAX_LOG_BYTES = LOGS.max_message_bytes - 16 * 2**10  # room for the key and Kafka's framing
ROUND_LOGS = 1024  # sent and waited for together: enough for every partition to be busy
ROUND_BYTES = 4 * 2**20
