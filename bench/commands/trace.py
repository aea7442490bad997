"""`bench trace`: traces of agents."""

from __future__ import annotations

from bench.commands.trace_run import trace_run_command
from bench.options import command_group

trace = command_group("Record traces of agents with tools.")
trace.command("run")(trace_run_command)
