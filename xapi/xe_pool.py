"""The commands of `xe` for hosts, pools, tasks, messages and events."""

from __future__ import annotations

from xapi.xe_command import Command, message

COMMANDS: tuple[Command, ...] = (
    message("task-cancel", "task.cancel", "uuid:task", "ask whoever works on a task to stop"),
)
