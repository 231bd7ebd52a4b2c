"""Run a command that must not outlive its parent process: `python die_with_parent.py PARENT_PID command …`.

The Linux kernel sends the command SIGKILL when the *thread* that started it ends, so a kill -9 of the parent leaves no
orphan. The request to the kernel survives exec, so this small program makes it and then becomes the command. This is
safer than Popen's preexec_fn, which runs Python between fork and exec of a process with threads. On other systems the
program only becomes the command; the next start on the same home ends an orphan. Standard library only, because Python
runs it with -S -E.

Signals become the default ones: a background process of a non-interactive shell inherits SIGINT ignored, and Dagster
copies that to SIGTERM, so that neither would end it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Replace this process with the command in the arguments. Never returns; exits if the parent is already gone."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")  # It died before the request took effect.
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
