"""A trainer in a process of its own, on the embedded engines of a folder: `python trainer_process.py FOLDER LEASE_S DEVICES`."""

import asyncio
import signal
import sys
from pathlib import Path

from tunemill.bus.open import open_bus
from tunemill.registry.open import open_registry
from tunemill.telemetry.logs import configure
from tunemill.trainer.service import open_fleet, run_trainer


async def serve(folder: Path, lease_s: float, devices: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    bus, engine = open_bus(f"sqlite:{folder / 'bus.db'}"), open_registry(f"sqlite:///{folder / 'registry.db'}")
    fleet = open_fleet(devices=devices)
    await run_trainer(bus, engine, str(folder / "files"), folder / "work", stop=stop, lease_s=lease_s, fleet=fleet)
    await bus.close()


if __name__ == "__main__":
    configure(service="trainer")
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
