"""How the Vault Agent tells an application of a rotation: a program that it runs after it has rendered. Pure.

It is a script that never changes; what differs is passed as arguments, which no shell reads. It runs as the user of the
agent, which is that of the application, and sees its processes only where the pod shares one namespace of them.
"""

from __future__ import annotations

from typing import Any, Final

from kernelsecret.interceptor import NotifySpec
from webhook.policy.vault_agent.paths import FILES

# A process belongs to the application where its own root has the volume mounted. `main` is the oldest of those that
# the container runtime has started in a container; a younger one is a shell that somebody has entered. Only what every
# /bin/sh has by itself is used. The script never fails: the agent would begin anew.
SCRIPT: Final = r"""
mains=
for d in /proc/[0-9]*; do
  [ "$d/root$3" -ef "$4" ] || [ "$d/root${3#/var}" -ef "$4" ] || continue
  if [ "$2" != main ]; then
    if [ "$d/exe" -ef "$d/root$2" ]; then kill -s "$1" "${d#/proc/}"; fi
  elif IFS= read -r line < "$d/stat"; then
    n=0
    for word in ${line##*) }; do
      n=$((n + 1))
      if [ $n = 2 ] && [ "$word" != 0 ]; then break; fi
      if [ $n = 20 ]; then mains="$mains $word:$d"; break; fi
    done
  fi
done
for a in $mains; do
  for b in $mains; do
    if [ "${b%%:*}" -lt "${a%%:*}" ] && [ "${b#*:}/ns/mnt" -ef "${a#*:}/ns/mnt" ]; then continue 2; fi
  done
  kill -s "$1" "${a##*/}"
done
exit 0
"""


def command(notify: NotifySpec, path: str) -> dict[str, Any]:
    """The `exec` of each template; the agent runs equal ones once for all files that it has rendered together.

    `path` is where the application has the volume mounted.
    """
    words = ["/bin/sh", "-c", SCRIPT, "sh", notify.signal.removeprefix("SIG"), notify.process, path, FILES]
    return {"command": words, "timeout": "10s"}
