"""The main function of the executables in `srs/drivers`."""

import sys

from srs.command import execute
from srs.errors import BadRequest
from srs.protocol import encode_fault
from srs.sr import SR


def main(driver: type[SR], argv: list[str]) -> int:
    """Carry out the document in argv[1] and print the answer; faults are answers, status 0."""
    if len(argv) != 2:
        sys.stdout.write(encode_fault(BadRequest("one argument: the XML-RPC document")))
        return 0
    reply = execute(driver, argv[1])
    sys.stdout.write(reply.stdout)
    sys.stderr.write(reply.stderr)
    return 0
