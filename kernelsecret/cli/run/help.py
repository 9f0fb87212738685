"""What `kernelsecret-ctl run --help` teaches."""

from __future__ import annotations

from typing import Final

HELP: Final = """Run a command with its secrets, without a cluster.

A variable of the environment that is a reference becomes the path of a file with the secret, in memory:

    vault:PATH#KEY        a path of Vault's API: KV v1 and v2 (?version=3 pins one), or credentials made for COMMAND

    file:/FOLDER/FILE     a file; file:/FOLDER#KEY is the same

The value is in no environment, argument or disk. Opened again, the path shows the newest value, whole. COMMAND is not
started unless every reference is good. NAME_FILE=vault:... suits programs that take the name of a file.

Vault is found, and believed, by VAULT_ADDR, VAULT_CACERT and VAULT_NAMESPACE, as by Vault's own command line; so is the
token, by VAULT_TOKEN (which COMMAND does not get) or ~/.vault-token, unless --vault-role or --vault-approle logs in.

Exit status: that of COMMAND, 128 and the number of the signal that ended it; 125 where it was not started because of
us, 126 where it cannot be run, 127 where it is not there; 2 for a wrong option."""

EPILOG: Final = (
    "Examples:\n\n"
    "  DB_PASSWORD_FILE=vault:secret/data/db#password kernelsecret-ctl run -- ./server\n\n"
    "  TLS_KEY=file:/etc/app/tls.key kernelsecret-ctl run --on-change signal:SIGHUP -- nginx -c site.conf\n\n"
    "  DB=vault:database/creds/app#password kernelsecret-ctl run --vault-role app --on-change restart -- ./worker\n\n"
    "  DB_PASSWORD=vault:secret/data/db#password kernelsecret-ctl run --check -o json"
)
