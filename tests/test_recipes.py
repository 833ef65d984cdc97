"""The recipes below ci/ are what the services take, and do where they can be done here."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / "ci"


def read(name: str) -> Any:
    return YAML(typ="safe").load(CI / name)


def run(*argv: str | Path, text: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv, input=text, capture_output=True, text=True, check=False, timeout=300
    )


def bash_takes(script: str) -> None:
    done = run("bash", "-n", text=script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "schema"), [("github/action.yml", "github-actions"), ("gitlab.yml", "gitlab-ci")]
)
def test_services_take_them(name: str, schema: str) -> None:
    argv = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}")
    done = run(*argv, CI / name)
    assert done.returncode == 0, done.stdout
    broken = run(*argv, ROOT / "pyproject.toml", "--default-filetype", "toml")
    assert broken.returncode != 0, "a schema that takes everything shows nothing"


def test_scripts_are_scripts() -> None:
    for step in read("github/action.yml")["runs"]["steps"]:
        # Text of an input in a script would be part of the script.
        assert "${{" not in step.get("run", "")
        bash_takes(step.get("run", ""))
    bash_takes("\n".join(read("gitlab.yml")[".sr-testbed"]["script"]))
    for file in read("cloud-init.yml")["write_files"]:
        if file["content"].startswith("#!/bin/bash"):
            bash_takes(file["content"])


def test_every_option_that_they_use_is_one() -> None:
    texts = [read("gitlab.yml")[".sr-testbed"]["script"][-1]]
    texts += [step.get("run", "") for step in read("github/action.yml")["runs"]["steps"]]
    texts += [file["content"] for file in read("cloud-init.yml")["write_files"]]
    after_run = [
        text.partition(word)[2]
        for text in texts
        for word in ("ci/run", "          sr-testbed ", "sr-testbed --junit")
        if word in text
    ]
    assert len(after_run) >= 3
    known = run(sys.executable, "-m", "testbed", "run", "--help").stdout
    for option in re.findall(r"--[a-z]+", " ".join(after_run)):
        assert option in known, option


def test_cloud_init_sees_its_own_file() -> None:
    assert (CI / "cloud-init.yml").read_text().startswith("#cloud-config\n")
    assert {"packages", "write_files", "runcmd"} <= read("cloud-init.yml").keys()
    modules = read("cloud-init.yml")["write_files"][0]["content"].split()
    assert set(modules) == {"loop", "dm-mod", "nbd"}


def test_cloud_init_runs_on_the_kernel_that_it_installs() -> None:
    recipe = read("cloud-init.yml")
    files = {file["path"]: file["content"] for file in recipe["write_files"]}
    units = [Path(path).name for path in files if path.startswith("/etc/systemd/system/")]
    commands = [" ".join([line] if isinstance(line, str) else line) for line in recipe["runcmd"]]
    program = "/usr/local/sbin/sr-testbed"
    assert f"ExecStart={program}" in files[f"/etc/systemd/system/{units[0]}"].splitlines()
    assert program not in commands, "that would be the kernel of the image"
    assert [f"systemctl enable {unit}" for unit in units] == commands[-1:]
    assert recipe["power_state"] == {"mode": "reboot"}
    # GRUB's own order would boot the cloud kernel again.
    other = "apt-get install -y linux-image-amd64 && rm -f /boot/vmlinuz-*-cloud-* && update-grub"
    assert commands[0] == other
    bash_takes("\n".join(commands))


def test_a_job_of_another_project_knows_what_to_clone() -> None:
    """$CI_PROJECT_URL would be that project."""
    job = read("gitlab.yml")[".sr-testbed"]
    assert job["variables"]["SR_TESTBED_REPOSITORY"] == ""
    assert "#         SR_TESTBED_REPOSITORY: https://" in (CI / "gitlab.yml").read_text()
    for address, status in (("", 2), ("https://host/sr-testbed.git", 0)):
        script = f"SR_TESTBED_REPOSITORY={address}\n{job['script'][0]}\n"
        done = run("bash", "-e", text=script)
        assert done.returncode == status
        assert ("set SR_TESTBED_REPOSITORY" in done.stdout) == bool(status)


def test_container_file_names_what_is_there() -> None:
    text = (CI / "Containerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line.split()[0] for line in lines] == ["FROM", "WORKDIR", "COPY", "RUN", "ENTRYPOINT"]
    for program in re.findall(r"ci/[a-z]+", " ".join(lines)):
        assert os.access(ROOT / program, os.X_OK), program


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, in a namespace of its own")
@pytest.mark.parametrize(
    ("options", "used"), [("noexec,size=2g", False), ("size=64m", False), ("size=2g", True)]
)
def test_a_container_s_shared_memory(options: str, used: bool) -> None:
    """A guest boots whatever /dev/shm is; only in a good one is its memory."""
    script = f"""
        mount -t tmpfs -o {options} tmpfs /dev/shm
        "$0" -m testbed shell echo booted
        "$0" -c "from testbed.state import memory_base; print(memory_base())"
    """
    done = run("unshare", "--mount", "sh", "-c", script, sys.executable)
    booted, place = done.stdout.split()
    assert booted == "booted", done.stderr
    assert place.startswith("/dev/shm/") == used
