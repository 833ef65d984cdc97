"""How a command of the testbed ended."""

from enum import IntEnum


class Status(IntEnum):
    """Exit status."""

    PASSED = 0
    FAILED = 1
    COULD_NOT_RUN = 2

    @classmethod
    def of(cls, *, failed: bool, broken: bool) -> "Status":
        """What was seen to fail says more than what could not run."""
        if failed:
            return cls.FAILED
        return cls.COULD_NOT_RUN if broken else cls.PASSED
