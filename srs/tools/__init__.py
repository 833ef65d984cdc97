"""The field's commands on top of the engine: `vhd-util`, `td-util` and `cbt-util`.

Same sub-commands, letters, lines on stdout and exit codes (errno) as the tools that XenServer's
drivers call, so that a driver may find these in PATH instead; `docs/reference/vhd.md` lists where
they differ on purpose. `testbed tools DIR` makes executables of them.

A driver runs one of these for each question, so starting counts: the table of commands is text,
and a command's module and the engine are imported when it is known that they are needed.
"""
