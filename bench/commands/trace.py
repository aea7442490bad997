"""`bench trace`: traces of agents."""

from __future__ import annotations

from bench.commands.trace_exchange import trace_export_command, trace_import_command
from bench.commands.trace_review import (
    trace_drop_command,
    trace_edit_command,
    trace_list_command,
    trace_rate_command,
    trace_show_command,
)
from bench.commands.trace_run import trace_run_command
from bench.options import command_group

trace = command_group("Record, clean, choose and exchange traces of agents with tools.")
trace.command("run")(trace_run_command)
trace.command("list")(trace_list_command)
trace.command("show")(trace_show_command)
trace.command("edit")(trace_edit_command)
trace.command("rate")(trace_rate_command)
trace.command("drop")(trace_drop_command)
trace.command("export")(trace_export_command)
trace.command("import")(trace_import_command)
