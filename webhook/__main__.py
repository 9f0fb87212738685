"""`python -m webhook`: one replica, set by KERNELSECRET_WEBHOOK_* variables alone.

Without the command line's libraries, which would be kept in memory for nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# structlog imports it for a console of its own wherever it is installed: 4 MB.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


@contextmanager
def _without_system_authorities() -> Iterator[None]:
    """aiohttp loads every authority of the system as soon as it is imported, for a context that is never used: 2 MB."""
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main() -> int:
    """The process's exit status."""
    from kernelsecret.errors import KernelSecretError

    with _without_system_authorities():
        from webhook.service import run
    from webhook.settings import Settings

    try:
        return run(Settings.load())
    except KernelSecretError as error:
        sys.stderr.write(f"webhook: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
