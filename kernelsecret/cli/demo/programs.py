"""The programs of the demonstration. None of them knows of KernelSecret: they open files and read them."""

from __future__ import annotations

from typing import Final

FOLDER: Final = "/var/run/secrets/database"

# Reads both files over and over; a line when the value is new, and ten times a second how many reads there were.
# The time is taken right after the read that brought the first new byte.
PYTHON_READER: Final = """
import json, sys, time

folder, seen, reads, failed, mixed, told = sys.argv[1], "", 0, 0, 0, 0.0
while True:
    try:
        user = open(folder + "/username").read()
        now = time.monotonic_ns()
        password = open(folder + "/password").read()
        reads += 2
        failed += (not user) + (not password)
        mixed += user.strip().rpartition("-")[2] != password.partition("-")[0]
    except OSError:
        failed, reads, user, now = failed + 1, reads + 1, seen, time.monotonic_ns()
    if user != seen or now - told > 100_000_000:
        told = now
        line = {"at": now, "new": user != seen, "user": user.strip(), "password": password.strip()}
        print(json.dumps(line | {"reads": reads, "failed": failed, "mixed": mixed}), flush=True)
        seen = user
    time.sleep(0.0005)
"""

SHELL_READER: Final = r"""
seen= reads=0 failed=0
while :; do
    user=
    read -r user < "$1/username" || failed=$((failed + 1))
    reads=$((reads + 1))
    if [ "$user" != "$seen" ]; then new=true; else new=false; fi
    if $new || [ $((reads % 10)) = 0 ]; then
        printf '{"new": %s, "user": "%s", "reads": %d, "failed": %d}\n' $new "$user" $reads $failed
        seen=$user
    fi
    sleep 0.01
done
"""

# What an intruder runs: print the secret. `cat` says why it cannot.
THIEF: Final = 'exec cat "$1/password"'

# What is left of an entered shell that forks twice and ends: an orphan that init has adopted, and that looks at home.
ORPHAN: Final = """
import os, sys, time

if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
until = time.monotonic() + 5
while os.getppid() != 1 and time.monotonic() < until:
    time.sleep(0.001)
print("parent", os.getppid(), flush=True)
try:
    print("secret", open(sys.argv[1] + "/password").read())
except OSError as error:
    print("refused", error.strerror)
"""

# An application with a hole: whatever it is sent, it gives to a shell. It can read the secret itself.
HOLED_APPLICATION: Final = """
import subprocess, sys

folder = sys.argv[1]
for command in sys.stdin:
    print("itself", len(open(folder + "/password").read()) > 0, flush=True)
    ran = subprocess.run(["/bin/sh", "-c", command, "sh", folder], capture_output=True, text=True)
    print("shell", ran.returncode, ran.stdout.strip() or "nothing", ran.stderr.strip(), flush=True)
"""
