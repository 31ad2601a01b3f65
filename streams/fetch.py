"""Faust's consumer, which hands on what a fetch brought of a partition as one message: its value is the list of the records.

Faust's own way costs 80 µs a message, most of it for two tasks and a wait each time. What it is careful about is kept: nothing passes
while the flow is stopped for a rebalance, and what came meanwhile is read again from where the group committed. Three things differ:
- Where the group committed nothing, or 0, the beginning is sought. aiokafka would leave the place where it is, behind records that
  were fetched while the flow was stopped, and those would be left out.
- A full buffer makes the fetch wait. Faust takes such a partition out, and sleeps for a second when none is left.
- Faust's acknowledgements, which are off, are not prepared for.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

FETCH_S = 1.0  # how long a fetch that finds nothing waits
AGAIN_S = 0.1

Fetched = Mapping[TP, Sequence[Any]]


class FetchConsumer(driver.Consumer):  # type: ignore[misc]
    """Reads the partitions that the group gives us."""

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: whoever puts a message into the buffer waits until there is room."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: `streams/liveness.py` sees to it that something moves."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Read on from where the group committed; where it did not, from the beginning."""
        committed: Mapping[TP, int] = await super().seek_to_committed()
        fresh = [tp for tp, offset in committed.items() if not offset]
        if fresh:
            await self._thread.seek_to_beginning(*fresh)
        return committed

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                records, _ = await self._wait_next_records(FETCH_S)
                await asyncio.sleep(0)  # an answer may have lain ready each time
                if records and self.flow_active:
                    await self.wait_first(self._hand_on(records), self.suspend_flow.wait())
                elif records:
                    await self._read_again()
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _hand_on(self, fetched: Fetched) -> None:
        for tp, records in fetched.items():
            place = self._read_offset[tp]
            fresh = [record for record in records if place is None or record.offset >= place]
            if fresh:
                await self.callback(self._as_one_message(tp, fresh))
                self._read_offset[tp] = fresh[-1].offset + 1

    async def _read_again(self) -> None:
        """Leave what was fetched. Nothing more is fetched before its place is sought again, or its partition gone."""
        while self.assignment() and not self.should_stop:
            try:
                await self.perform_seek()
                return
            except Exception as error:  # another rebalance, or the broker is away
                self.log.warning("the committed places could not be sought yet: %s", type(error).__name__)
                await asyncio.sleep(AGAIN_S)

    def _as_one_message(self, tp: TP, records: Sequence[Any]) -> ConsumerMessage:
        first = records[0]
        return ConsumerMessage(
            first.topic,
            first.partition,
            first.offset,
            first.timestamp / 1000,
            first.timestamp_type,
            [],
            None,
            records,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )


class FetchTransport(driver.Transport):  # type: ignore[misc]
    """Kafka, read by `FetchConsumer`."""

    Consumer = FetchConsumer
