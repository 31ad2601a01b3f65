"""A process that erases a subject and is killed at a step: `python erase_and_die.py FOLDER SUBJECT STEP`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from fakes.curator_api import running_api

from tunemill.curator_api import erase, erasure_store
from tunemill.curator_api.erase import Erasing, Step
from tunemill.curator_api.receipt import Line
from tunemill.indexer.open import open_index

STEPS = ("forget", "topics", "versions", "close")  # at the end of each, before it is written down that it is over


def dying(step: Step) -> Step:
    """The step, done, and its process killed before it says so."""

    async def killed(work: Erasing) -> list[Line]:
        await step(work)
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    return killed


async def main(folder: Path, subject: str, step: str) -> None:
    """Ask for an erasure, and work on it until the end of a step."""
    erase.LOOK_EVERY_S, erasure_store.LEASE_MS = 0.05, 300
    if step == "close":
        erase._close = dying(erase._close)  # type: ignore[assignment]
    else:
        erase.STEPS[step] = dying(erase.STEPS[step])
    async with running_api(folder, index=open_index(f"local:{folder / 'index'}")) as api:
        reply = await api.client.post("/v1/erasures", json={"subject": subject})
        assert reply.status_code == 202, reply.text
        await asyncio.sleep(60)


if __name__ == "__main__":
    place, who, when = sys.argv[1:]
    asyncio.run(main(Path(place), who, when))
