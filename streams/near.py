"""Whether a log says nearly the same as an earlier one, of those that one worker remembers.

Those that share a run of a sketch are compared. Of logs that are alike the first is remembered.
"""

from collections import OrderedDict

import msgspec

from tunemill.schemas.records import Tag, TaggedLog
from tunemill.schemas.sketch import BANDS, MIN_SIMILARITY, similarity

NEAR_DUPLICATE = "quality:near-duplicate"
SETTER = "near@1"
MOST_LOGS = 100_000  # remembered; about 150 MB


class Near:
    """What one worker, or one pass over history, has seen; the least recently met is forgotten first."""

    def __init__(self, most: int = MOST_LOGS) -> None:
        self._most = most
        self._sketches: OrderedDict[str, bytes] = OrderedDict()  # by log_id, the least recently met first
        self._bands: list[dict[int, str]] = [
            {} for _ in range(BANDS.size // 4)
        ]  # a run of bytes -> the log_id that had it last

    def mark(self, tagged: TaggedLog) -> TaggedLog:
        """The log with the tag of a near-duplicate or without it; the same object when that changes nothing.

        A log that comes again is no duplicate of itself. What a person set or took off stays so.
        """
        is_near = tagged.fingerprint is not None and self._meet(tagged.log.log_id, bytes.fromhex(tagged.fingerprint))
        before = next((entry for entry in tagged.tags if entry.tag == NEAR_DUPLICATE), None)
        if is_near and before is None and NEAR_DUPLICATE not in tagged.removed:
            return msgspec.structs.replace(tagged, tags=(*tagged.tags, Tag(NEAR_DUPLICATE, SETTER)))
        if not is_near and before is not None and before.by == SETTER:
            return msgspec.structs.replace(tagged, tags=tuple(entry for entry in tagged.tags if entry is not before))
        return tagged

    def _meet(self, log_id: str, sketch: bytes) -> bool:
        """Whether an earlier log is alike; if none is, this one is remembered."""
        bands = BANDS.unpack_from(sketch)
        sketches = self._sketches
        for found in {had.get(band) for had, band in zip(self._bands, bands, strict=True)}:
            if found is not None and found != log_id and similarity(sketches[found], sketch) >= MIN_SIMILARITY:
                sketches.move_to_end(found)
                return True
        self._forget(log_id)  # it may have been another when it came before
        sketches[log_id] = sketch
        for had, band in zip(self._bands, bands, strict=True):
            had[band] = log_id
        if len(sketches) > self._most:
            self._forget(next(iter(sketches)))
        return False

    def _forget(self, log_id: str) -> None:
        sketch = self._sketches.pop(log_id, None)
        if sketch is None:
            return
        for had, band in zip(self._bands, BANDS.unpack_from(sketch), strict=True):
            if had.get(band) == log_id:
                del had[band]
