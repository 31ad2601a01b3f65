"""What can go wrong with a run.

TrainerError
├── InvalidRecipe      the client's fault: an unknown or impossible knob
├── InvalidRun         the data's or the set-up's fault: trying again cannot help
│   ├── BaseNotFound       the base model is not where the recipe says
│   ├── DatasetNotFound    no manifest or part at the event's URL
│   ├── DigestMismatch     files are not those that were published, or that the run was ordered with
│   ├── NothingToTrain     no row has a token to train on
│   ├── DoesNotFit         the machine's memory does not hold the run
│   └── Diverged           the loss is no longer a number
├── OutOfMemory        the memory was not enough after all: worth another attempt with less at once
├── DiskFull           no room for a checkpoint or the result
├── WorkerDied         the process ended without a word: worth another attempt
├── LauncherAway       what runs the workers does not answer: the run waits for it
├── LeaseLost          another trainer has taken the run over: stop and write nothing
└── Stopped            the supervisor asked the worker to stop; its checkpoint is written
"""


class TrainerError(Exception):
    """A run could not go on. `code` is from a bounded list; `remedy` tells a person what to do."""

    code = "internal"
    retryable = True

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class InvalidRecipe(TrainerError):
    """The recipe names an unknown knob or an impossible value."""

    code = "invalid_recipe"
    retryable = False


class InvalidRun(TrainerError):
    """The run cannot succeed however often it is tried."""

    code = "invalid_run"
    retryable = False


class BaseNotFound(InvalidRun):
    """The base model is not there, or is not a safetensors model."""

    code = "base_not_found"


class DatasetNotFound(InvalidRun):
    """The manifest or one of its parts is not there."""

    code = "dataset_not_found"


class DigestMismatch(InvalidRun):
    """A file's SHA-256 is not the one that was published, or that the run was ordered with: it is refused."""

    code = "digest_mismatch"


class NothingToTrain(InvalidRun):
    """After rendering and the length policy no row has a token to train on."""

    code = "nothing_to_train"


class Diverged(InvalidRun):
    """The loss or the gradient is not a finite number."""

    code = "diverged"


class DoesNotFit(InvalidRun):
    """The estimate is more than the machine's memory: nothing was loaded."""

    code = "does_not_fit"


class OutOfMemory(TrainerError):
    """The run needed more memory than there was; the next attempt takes fewer tokens at once."""

    code = "out_of_memory"


class DiskFull(TrainerError):
    """There is no room left for a checkpoint or the result."""

    code = "disk_full"
    retryable = False


class WorkerDied(TrainerError):
    """The worker ended without saying why: killed, out of memory, or a lost machine."""

    code = "worker_died"


class LauncherAway(TrainerError):
    """What runs the workers cannot be reached now, or did not take the job."""

    code = "launcher_away"


class LeaseLost(TrainerError):
    """The run belongs to another trainer now."""

    code = "lease_lost"


class Stopped(TrainerError):
    """The worker was asked to stop and has written its checkpoint."""

    code = "stopped"
