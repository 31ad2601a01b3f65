"""Why a real engine could not be had.

EngineAbsent        this machine lacks what the engine is made from; the next way may work
EngineDidNotStart   it was started and never answered: its log is in the message
"""


class EngineAbsent(Exception):
    """This machine has not what is needed to start the engine."""


class EngineDidNotStart(Exception):
    """The engine was started but did not answer in time."""
