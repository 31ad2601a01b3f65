"""What an application imports to publish its LLM logs: `Producer`, `wrap`, `TunemillHandler` and `log_context`."""

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.sdk.context import log_context
from tunemill.sdk.counts import Stats
from tunemill.sdk.errors import BadKey, BadPolicy, UnknownUrl
from tunemill.sdk.log_handler import TunemillHandler
from tunemill.sdk.producer import Producer
from tunemill.sdk.wrap import wrap

__all__ = [
    "BadKey",
    "BadPolicy",
    "LogRecord",
    "Message",
    "Producer",
    "Stats",
    "ToolCall",
    "TunemillHandler",
    "UnknownUrl",
    "Usage",
    "log_context",
    "wrap",
]
