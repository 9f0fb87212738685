"""An application that knows nothing of rotations: it reads name and password, connects, asks, and does it again.

database_client.py FOLDER HOST PORT: a line for each new name; on SIGTERM a line of JSON with what it counted.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import psycopg


def main(folder: Path, host: str, port: str) -> None:
    """Until told to stop."""
    names: set[str] = set()
    queries = failed = 0
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    while not stopped:
        name, password = (folder / "username").read_text(), (folder / "password").read_text()
        queries += 1
        try:
            with psycopg.connect(host=host, port=port, user=name, password=password, dbname="app") as connection:
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            failed += 1
            print(f"failed: {type(error).__name__} {error.sqlstate}", file=sys.stderr, flush=True)
        if name not in names:
            names.add(name)
            print("another name", flush=True)
    print(json.dumps({"queries": queries, "failed": failed, "names": len(names)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
