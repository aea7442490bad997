"""How the watch is started again and again: an interval, a systemd timer, or a line for cron."""

from __future__ import annotations

import re
import shlex
import sys
from datetime import timedelta
from pathlib import Path

from domainlift.errors import Misuse

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parse_interval(text: str) -> timedelta:
    """Read `30m`, `1h` or `7d`; Misuse otherwise."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*([mhd])\s*", text)
    if found is None or not int(found[1]):
        raise Misuse(f"`--every {text}` is no interval", "write `30m`, `1h` or `7d`")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def install_hint(workspace: Path, folder: Path) -> str:
    """Units of a systemd timer and a line for cron, which look once an hour from `folder`.

    A timer that is `Persistent` makes up for a look that a machine slept through; a cron line does
    not, and needs not: the next look finds what there is.
    """
    where = workspace.resolve()
    command = [str(Path(sys.executable).absolute()), "-m", "bench", "watch", "--once"]
    line = shlex.join([*command, "--workspace", str(where)])
    cron = line.replace("%", chr(92) + "%")
    return f"""\
# ~/.config/systemd/user/bench-watch.service
[Unit]
Description=Look at what has changed since the last version

[Service]
Type=oneshot
WorkingDirectory={folder.resolve()}
ExecStart={line.replace("%", "%%")}

# ~/.config/systemd/user/bench-watch.timer
[Unit]
Description=Look once an hour

[Timer]
OnCalendar=hourly
Persistent=true
RandomizedDelaySec=300

[Install]
WantedBy=timers.target

# then: systemctl --user daemon-reload && systemctl --user enable --now bench-watch.timer

# or, by `crontab -e`, in the place of the timer:
{_minute(where)} * * * * cd {shlex.quote(str(folder.resolve()))} && {cron}
"""


def _minute(workspace: Path) -> int:
    """A minute of the hour that not every workspace has."""
    return sum(str(workspace).encode()) % 60
