"""A sketch of what was asked last and answered, by which logs that say nearly the same are known from one another. Pure.

MinHash (A. Broder, "On the resemblance and containment of documents", 1997) over pairs of words, a byte of each minimum kept
(P. Li and A. C. König, "b-Bit Minwise Hashing", 2010). The same on every machine, by the same version of `rensa`.
"""

from struct import Struct
from zlib import crc32

from rensa import RMinHash

from tunemill.schemas.records import LogRecord

SLOTS = 64  # bytes of a sketch; the error of a similarity is about 0.05
_SEED = 42
_MIN_PAIRS = 16  # of fewer, one word is too much of the whole
_CHANCE = 1 / 256  # that two unlike bytes are the same
_MINIMA = Struct(f"<{SLOTS}I")


def fingerprint(log: LogRecord) -> str | None:
    """The sketch as hexadecimal text; None when there is too little text. Case and white space do not count."""
    words = "\n".join(_said(log)).lower().encode(errors="replace").split()
    pairs = list(map(crc32, words[1:], map(crc32, words)))  # of both words: a CRC goes on where another ended
    if len(pairs) < _MIN_PAIRS:
        return None
    (minima,) = RMinHash.digest_matrix_from_flat_token_hashes(pairs, [0, len(pairs)], SLOTS, _SEED).to_rows()
    return _MINIMA.pack(*minima)[::4].hex()


def similarity(sketch: bytes, other: bytes) -> float:
    """An estimate of Jaccard's similarity of the pairs of words behind two sketches: 1 for the same, 0 for unlike."""
    unlike = int.from_bytes(sketch) ^ int.from_bytes(other)  # a zero byte where they are the same
    share = unlike.to_bytes(SLOTS).count(0) / SLOTS
    return max(0.0, (share - _CHANCE) / (1 - _CHANCE))


def _said(log: LogRecord) -> list[str]:
    """What the user said last, and what was answered."""
    asked = next((message for message in reversed(log.messages) if message.role == "user"), None)
    said = [asked.content] if asked and asked.content else []
    for message in log.output:
        if message.content:
            said.append(message.content)
        for call in message.tool_calls:
            said += call.name, call.arguments
    return said
