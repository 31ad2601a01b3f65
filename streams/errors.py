"""What can go wrong in the stream, and what then happens to the record.

StreamError
├── Undecodable          the data's fault: the record goes to the dead letters at stage decode
├── RulesInvalid         the operator's fault: the file of rules is wrong, and nothing starts
└── RegistryUnavailable  the schema registry's or its operator's: the batch ends without a commit, and comes again
"""


class StreamError(Exception):
    """Something went wrong in the stream."""


class Undecodable(StreamError):
    """These bytes are not a log that we can read.

    Attributes:
        code: from a bounded list, see `docs/formats.md`.

    The message names the place in the record and never repeats what stands there.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class RulesInvalid(StreamError):
    """A file of tag rules cannot be used; the message names the rule and the reason."""


class RegistryUnavailable(StreamError):
    """The schema registry cannot be asked; the message says how it failed and holds no address."""
