"""What `kernelsecret-ctl run --help` teaches."""

from __future__ import annotations

from typing import Final

HELP: Final = """Run a command with its secrets, without a cluster.

A variable of the environment that is a reference becomes the path of a file with the secret, in memory:

\b
    vault:PATH#KEY     a path of Vault's API: KV v1 and v2, or credentials
                       made for COMMAND; vault:PATH?version=3#KEY pins one
    file:/FOLDER/FILE  a file; file:/FOLDER#KEY is the same

The value is in no environment, argument or disk. Opened again, the path shows the newest value, whole. COMMAND is not
started unless every reference is good. NAME_FILE=vault:... suits programs that take the name of a file.

Vault is found, and believed, by VAULT_ADDR, VAULT_CACERT and VAULT_NAMESPACE, as by Vault's own command line; so is the
token, by VAULT_TOKEN (which COMMAND does not get) or ~/.vault-token, unless --vault-role or --vault-approle logs in.

Exit status: that of COMMAND, 128 and the number of the signal that ended it; 125 where it was not started because of
us, 126 where it cannot be run, 127 where it is not there; 2 for a wrong option."""

EPILOG: Final = (
    "Examples:\n\n\b\n"
    "  export DB_PASSWORD_FILE=vault:secret/data/db#password\n"
    "  kernelsecret-ctl run -- ./server\n"
    "  kernelsecret-ctl run --on-change restart --vault-role app -- ./worker\n"
    "  kernelsecret-ctl run --check -o json\n\n\b\n"
    "  export TLS_KEY=file:/etc/app/tls.key\n"
    "  kernelsecret-ctl run --on-change signal:SIGHUP -- ./server --tls"
)
