"""Which programs ran: the kernel's own process accounting, acct(2).

Each process that ends leaves a record of 64 bytes (acct(5)): the first byte has AFORK when it
never called exec, the second is the version of the layout, which says where its name is. So
a record without AFORK is a program that was started; forks of the driver server do not count.
"""

import os
from typing import Final

from testbed.guest import linux

_FILE: Final = "/run/accounting"
_RECORD: Final = 64
_NAME: Final = {2: slice(36, 53), 3: slice(48, 64)}
_AFORK: Final = 1


def start() -> None:
    """Begin to note programs."""
    with open(_FILE, "wb"):
        linux.account(_FILE)


def stop() -> list[str]:
    """Names of the programs that were started, and have ended, since `start`."""
    # Read first: switching off writes one more record, about the process that does it.
    with open(_FILE, "rb") as file:
        data = file.read()
    linux.account("")
    os.unlink(_FILE)
    records = (data[at : at + _RECORD] for at in range(0, len(data), _RECORD))
    return [
        record[_NAME[record[1] & 0x7F]].partition(b"\0")[0].decode()
        for record in records
        if not record[0] & _AFORK
    ]
