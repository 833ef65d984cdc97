"""Xen Orchestra's way with a VM, by the npm package that it uses (see xo.mjs)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
INSTALLED = (_HERE / "node_modules").is_dir()


def run(url: str, vm: str, *, transport: str = "auto", timeout: float = 120.0) -> Any:
    """Snapshot, change and revert the VM of a uuid; returns the report of xo.mjs.

    `url` is the server's. `transport`: "json-rpc", "xml-rpc" or "auto".
    """
    options = {"url": url.replace("//", "//root:testbed@"), "transport": transport, "vm": vm}
    node = Path(sys.executable).with_name("node")
    done = subprocess.run(
        [node, _HERE / "xo.mjs", json.dumps(options)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"xo.mjs failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
