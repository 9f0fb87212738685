"""First program of a guest after its init script: runs the command it was given, reports, and powers off.

It runs alone, on the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

SHARED = Path("/run/shared")
POWER_OFF = 0x4321FEDC
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/run/tmp",
    "TMPDIR": "/run/tmp",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "HYPOTHESIS_STORAGE_DIRECTORY": "/run/tmp/hypothesis",
    "CI": "true",
    "LANG": "C.UTF-8",
}


def run(command: list[str], folder: str) -> int:
    """Exit status of `command`. As pid 1 this also takes in what others left behind."""
    output = os.open(SHARED / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.execve(command[0], command, ENVIRONMENT)
    while True:
        pid, status = os.wait()
        if pid == child:
            os.close(output)
            return os.waitstatus_to_exitcode(status)


def lockdown() -> str:
    text = Path("/sys/kernel/security/lockdown").read_text()
    return text.split("[")[1].split("]")[0]


def main() -> None:
    order = json.loads((SHARED / "order.json").read_text())
    status = run(order["command"], order["project"])
    report = {"kernel": os.uname().release, "lockdown": lockdown(), "status": status}
    (SHARED / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    try:
        main()
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(ctypes.c_int(POWER_OFF))
