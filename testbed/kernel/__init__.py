"""The kernels that a host can run on: `uml` by default, `local` where a machine allows it."""

from testbed.errors import KernelUnavailable
from testbed.kernel.base import Kernel
from testbed.kernel.local import LocalKernel
from testbed.kernel.uml import UmlKernel

KINDS: dict[str, type[Kernel]] = {"uml": UmlKernel, "local": LocalKernel}


def choose(wanted: str = "auto") -> type[Kernel]:
    """The kind of kernel to boot.

    Args:
        wanted: a kind, or "auto" for the first that can run here: uml, then local.

    Raises:
        KernelUnavailable: with the reason for each kind that was tried.
    """
    tried = list(KINDS) if wanted == "auto" else [wanted]
    reasons = {kind: KINDS[kind].missing() for kind in tried}
    for kind in tried:
        if not reasons[kind]:
            return KINDS[kind]
    raise KernelUnavailable(wanted, reasons)
