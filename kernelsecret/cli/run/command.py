"""`kernelsecret-ctl run`: what the command line says, checked; then two processes, of which this one becomes one."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernelsecret.cli.failures import CommandError, Exit, say
from kernelsecret.cli.run.login import TOKEN, Login, Options, login_of
from kernelsecret.cli.run.plan import SHORTEST_POLL_S, Change, OnChange, Pass, Plan, Status, change_of, duration
from kernelsecret.cli.run.references import VAULT, Reference, references
from kernelsecret.cli.run.secrets import Found, Secrets, problems_of
from kernelsecret.cli.run.supervise import environment_of
from kernelsecret.cli.run.telling import Telling, hush
from kernelsecret.errors import Refused
from kernelsecret.problems import Invalid
from telemetry.hardening import PR_SET_DUMPABLE, harden, prctl


@dataclass(frozen=True, slots=True)
class Asked:
    """The options, as they were written."""

    names: str
    by: Pass
    on_change: str
    poll_interval: str
    grace: str
    to_group: bool
    login: Options


def run(command: Sequence[str], asked: Asked) -> int:
    """Does not return where COMMAND is started. The exit status where it cannot be."""
    change, poll_s, grace_s = _checked(asked)
    if not command:
        raise CommandError("no COMMAND is given: kernelsecret-ctl run [OPTIONS] -- COMMAND [ARGS]", Exit.USAGE)
    environment = _environment()
    prepared = _prepared(environment, asked)
    if prepared is None:
        return Status.NOT_STARTED
    found, login = prepared
    environment.pop(os.fsencode(TOKEN), None)
    return _become_two(command, found, login, environment, (change, poll_s, grace_s), asked)


def check(asked: Asked, *, as_json: bool) -> int:
    """Resolve all and say what was found; nothing is started, and what was made for that is revoked."""
    _, poll_s, _ = _checked(asked)
    prepared = _prepared(_environment(), asked)
    if prepared is None:
        return Exit.WRONG
    harden()
    hush()
    outcome = asyncio.run(_checked_all(*prepared, poll_s))
    rows = [
        {
            "name": reference.name,
            "reference": str(reference),
            "found": reference.name not in one.problems,
            "version": one.version.label if one.version and reference.name not in one.problems else "",
            "problem": one.problems.get(reference.name, ""),
        }
        for one in outcome
        for reference in one.secret.references
    ]
    rows.sort(key=lambda row: str(row["name"]))
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['name']}  {row['reference']}  {row['version'] if row['found'] else 'NOT FOUND'}")
        for problem in problems_of(outcome):
            say(problem)
    return Exit.OK if all(row["found"] for row in rows) else Exit.WRONG


def _environment() -> dict[bytes, bytes]:
    """As we were started with it. Raises CommandError."""
    try:
        return environment_of()
    except FileNotFoundError:
        why = "there is no /proc, and below it COMMAND opens its values: mount it (mount -t proc proc /proc)"
        raise CommandError(why) from None


async def _checked_all(found: Sequence[Reference], login: Login | None, poll_s: float) -> list[Found]:
    secrets = Secrets(found, login, poll_s, Telling())
    try:
        return await secrets.fetch()
    finally:
        if lacking := await secrets.close():
            say(lacking)


def _checked(asked: Asked) -> tuple[Change, float, float]:
    """The options that are more than a word. Raises CommandError (usage)."""
    try:
        change = change_of(asked.on_change)
    except ValueError as error:
        raise CommandError(f"--on-change: {error}", Exit.USAGE) from None
    if asked.by is Pass.PIPE and change.do is OnChange.SIGNAL:
        why = "--on-change: a value from a pipe is read once, so a signal is of no use; take restart, exit or none"
        raise CommandError(why, Exit.USAGE)
    try:
        poll_s = duration(asked.poll_interval, SHORTEST_POLL_S)
    except ValueError as error:
        raise CommandError(f"--poll-interval: {error}", Exit.USAGE) from None
    try:
        return change, poll_s, duration(asked.grace)
    except ValueError as error:
        raise CommandError(f"--grace: {error}", Exit.USAGE) from None


def _prepared(environment: Mapping[bytes, bytes], asked: Asked) -> tuple[tuple[Reference, ...], Login | None] | None:
    """References and how to log in for them; None where something is wrong, which was said."""
    texts = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
    only = [name.strip() for name in asked.names.split(",") if name.strip()] if asked.names else None
    found, problems = references(texts, only)
    for problem in problems:
        say(str(problem))
    if problems:
        return None
    if not found:
        say("no variable of the environment is a reference (vault: or file:)")
    try:
        login = login_of(texts, asked.login) if any(one.scheme == VAULT for one in found) else None
    except (Refused, Invalid) as refusal:
        say(str(refusal))
        return None
    return found, login


def _become_two(
    command: Sequence[str],
    found: Sequence[Reference],
    login: Login | None,
    environment: Mapping[bytes, bytes],
    how: tuple[Change, float, float],
    asked: Asked,
) -> int:
    """The resolver is forked, so that it knows what this process knows. This one, whose pid is known to whoever started
    it, forgets by an exec."""
    from kernelsecret.cli.run import resolve
    from kernelsecret.cli.run.channel import pair

    change, poll_s, grace_s = how
    prctl(PR_SET_DUMPABLE, 0)  # the fork keeps that; an exec ends it
    ours, theirs = pair()
    sys.stdout.flush()
    sys.stderr.flush()
    core = resource.getrlimit(resource.RLIMIT_CORE)
    resolver = os.fork()
    if resolver == 0:
        ours.close()
        plan = Plan(asked.by, change, grace_s, asked.to_group)
        resolve.run(theirs, plan, found, login, poll_s)
    theirs.close()
    resource.setrlimit(resource.RLIMIT_CORE, core)
    os.set_inheritable(ours.fileno(), True)
    program = [sys.executable, "-P", "-m", "kernelsecret.cli.run.supervise", str(ours.fileno()), "--", *command]
    os.execve(sys.executable, program, dict(environment))  # noqa: S606
