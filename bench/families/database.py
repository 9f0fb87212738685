"""Fifty rotations of a database's credentials under a program that connects and queries all the time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.vault_world import VaultWorld
from bench.world import Pod
from tests.vault.harness.postgres import Database, Postgres
from tests.vault.harness.programs import lacks_postgres
from tests.vault.harness.server import HOST

FIGURES = ("failed_queries_50_rotations", "undropped_roles_50_rotations")
PROGRAM = Path(__file__).parents[1] / "database_client.py"
TTL, MAX_TTL = "4s", "9s"
"""So short that credentials have to be minted anew every few seconds, as they are once a day elsewhere."""
LIMIT_S = 900.0
DROPPED_WITHIN_S = 30.0


def run(options: Options) -> Outcome:
    """A Vault, a PostgreSQL of which only Vault knows the password, a node, a program in a pod."""
    if lack := lacks_postgres():
        raise RuntimeError(f"measured with a real database: {lack}")
    outcome = Outcome()
    rotations = options.rounds(50, 3)
    with VaultWorld.started() as made, Postgres.started() as postgres:
        database = postgres.enable(made.vault, ttl=TTL, max_ttl=MAX_TTL)
        database.rotate_root(made.vault)
        made.allow(f"{database.path()}: read")
        made.world.start_agent()
        pod = _published(made, database)
        client = made.world.start(
            made.world.inside(pod, Path(sys.executable), PROGRAM, pod.target, HOST, str(postgres.port))
        )
        say(f"{rotations} rotations of credentials that live {MAX_TTL} at most")
        told = _watched(client, rotations)
        made.world.unpublish(pod)
        outcome.figures += _figures(told, _left(postgres), rotations)
    return outcome


def _published(made: VaultWorld, database: Database) -> Pod:
    files = {database.path(): [("username", "username"), ("password", "password")]}
    made.world.interceptor("database", files, source=made.source)
    pod = made.world.add_pod("database")
    made.world.publish(pod)
    return pod


def _watched(client: subprocess.Popen[bytes], rotations: int) -> dict[str, int]:
    """Let it work until it has seen so many new names; what it counted."""
    assert client.stdout is not None
    began, seen = time.monotonic(), 0
    while seen <= rotations:
        if not client.stdout.readline():
            raise RuntimeError(f"the program ended with {client.wait()}")
        seen += 1
        if time.monotonic() - began > LIMIT_S:
            raise RuntimeError(f"{seen} of {rotations} rotations in {LIMIT_S:g} s")
    client.send_signal(signal.SIGTERM)
    *_, last = client.stdout.read().splitlines()
    told: dict[str, int] = json.loads(last)
    return told


def _left(postgres: Postgres) -> int:
    """Roles of Vault's that are left some time after nobody needs them."""
    end = time.monotonic() + DROPPED_WITHIN_S
    while (left := len(postgres.roles())) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def _figures(told: dict[str, int], left: int, rotations: int) -> list[Figure]:
    how = (
        f"{told['queries']} queries of a Python program with psycopg in a pod, each on a connection of its own "
        f"with the name and password that it had just read, through {rotations} rotations of dynamic credentials "
        f"(PostgreSQL 15, rotate-root done, ttl {TTL}, max_ttl {MAX_TTL})"
    )
    gone = f"roles of Vault's in the database {DROPPED_WITHIN_S:g} s after the volume's end, of {told['names']} minted"
    return [
        measured("failed_queries_50_rotations", told["failed"], how, 0),
        measured("undropped_roles_50_rotations", left, gone, 0),
    ]
