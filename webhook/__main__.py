"""`python -m webhook`: one replica, set by KERNELSECRET_WEBHOOK_* variables alone.

Without the command line's libraries, which would be kept in memory for nothing.
"""

from __future__ import annotations

import sys

# structlog imports it for a console of its own wherever it is installed: 4 MB.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def main() -> int:
    """The process's exit status."""
    from kernelsecret.errors import KernelSecretError
    from webhook.service import run
    from webhook.settings import Settings

    try:
        return run(Settings.load())
    except KernelSecretError as error:
        sys.stderr.write(f"webhook: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
