"""Unmodified programs that read secret files: how each reads, and what it does when the rule refuses it.

test_readers.py holds every row to the kernel, docs/readers.md shows the rows (see readers_page.py).
"""

from __future__ import annotations

from dataclasses import dataclass

# Where the test puts what a program brings along: the Go program, Java classes, nginx's configuration.
TOOLS = "/tools"
VALUE, CERTIFICATE, KEY = "/secrets/password", "/secrets/tls.crt", "/secrets/tls.key"
NETRC, PGPASS, HEADER, ASSIGNMENT = "/secrets/netrc", "/secrets/pgpass", "/secrets/header", "/secrets/env.sh"
HTTPS = "https://localhost:{https}/"
POSTGRES = "hostaddr=127.0.0.1 port={postgres} user=web gssencmode=disable"
# A program that has not ended after this time never does: `timeout` then says 124.
PATIENCE = ("timeout", "3")
TIMED_OUT = 124


@dataclass(frozen=True, slots=True)
class Reader:
    """One way of one program. What it prints names the generation that it read.

    `command[0]` is found on PATH; `status` and `says` are what the refused program ends with and complains of.
    `fails` is the complaint of a way that does not work at all, refused or not, and `instead` what works.
    """

    program: str
    way: str
    command: tuple[str, ...]
    status: int
    says: str = ""
    fails: str = ""
    instead: str = ""

    @property
    def name(self) -> str:
        """Of the row."""
        return f"{self.program} {self.way}"

    @property
    def is_deceived(self) -> bool:
        """Refused, it goes on as though the secret were empty."""
        return self.status == 0

    def outcome(self) -> str:
        """What becomes of it on refusal, in the table's words."""
        if self.is_deceived:
            return "**reads empty and goes on**, status 0"
        if self.status == TIMED_OUT:
            return "**tries again for ever** and says nothing"
        said = f"`{self.says}`" if self.says else "says nothing"
        return f"status {self.status}, {said}"


PYTHON_OPEN = f"print(open({VALUE!r}).read())"
PYTHON_TLS = (
    f"import ssl; c = ssl.create_default_context(cafile={CERTIFICATE!r}); c.load_cert_chain({CERTIFICATE!r}, {KEY!r}); "
    "print(c.get_ca_certs()[0]['subject'])"
)
NODE_STREAM = f"require('fs').createReadStream('{VALUE}').pipe(process.stdout)"
NODE_PROMISE = f"require('fs').promises.readFile('{VALUE}', 'utf8').then(console.log)"
NGINX = f"{TOOLS}/nginx.sh"
PYTHON_OPEN = f"print(open({VALUE!r}).read())"
PYTHON_TLS = (
    f"import ssl; c = ssl.create_default_context(cafile={CERTIFICATE!r}); c.load_cert_chain({CERTIFICATE!r}, {KEY!r}); "
    "print(c.get_ca_certs()[0]['subject'])"
)
NODE_FILE = f"require('fs').readFileSync('{VALUE}', 'utf8')"
NODE_PROMISE = f"require('fs').promises.readFile('{VALUE}', 'utf8').then(console.log)"
NODE_STREAM = f"require('fs').createReadStream('{VALUE}').pipe(process.stdout)"
TOO_LONG = "Argument list too long"
GO_TOO_LONG = "argument list too long"
SEEK = "Illegal seek"
SEEKS = "It seeks (OpenJDK 17). Use `Files.readAllBytes`, `Files.readString` or `read`."


def java(how: str) -> tuple[str, ...]:
    """A way of Read.java."""
    return ("java", "-cp", TOOLS, "Read", how, VALUE)


def go(how: str, *paths: str) -> tuple[str, ...]:
    """A way of read.go."""
    return (f"{TOOLS}/read", how, *paths)


def psql(*options: str) -> tuple[str, ...]:
    """psql, with the password in its file unless the options say otherwise."""
    return ("env", f"PGPASSFILE={PGPASS}", "psql", "-w", " ".join((POSTGRES, *options)))


def curl(*options: str) -> tuple[str, ...]:
    """curl, quiet but for its complaints."""
    return ("curl", "-sS", *options)


def shell(name: str, script: str) -> tuple[str, ...]:
    """A line of shell that goes on only where reading succeeds."""
    return (*name.split(), "-c", script + ' && echo "$v"')


READERS = (
    Reader("python", "`open().read()`", ("python3", "-c", PYTHON_OPEN), 1, f"OSError: [Errno 7] {TOO_LONG}"),
    Reader("python", "`ssl`: certificate, key", ("python3", "-c", PYTHON_TLS), 1, f"OSError: [Errno 7] {TOO_LONG}"),
    Reader("node", "`fs.readFileSync`", ("node", "-p", NODE_FILE), 1, "E2BIG: argument list too long, read"),
    Reader("node", "`fs.promises.readFile`", ("node", "-e", NODE_PROMISE), 1, "E2BIG: argument list too long, read"),
    Reader("node", "`fs.createReadStream`", ("node", "-e", NODE_STREAM), 1, "E2BIG: argument list too long, read"),
    Reader("java", "`Files.readString`", java("string"), 1, f"java.io.IOException: {TOO_LONG}"),
    Reader("java", "`Properties.load`", java("properties"), 1, f"java.io.IOException: {TOO_LONG}"),
    Reader("java", "`FileInputStream.read`", java("read"), 1, f"java.io.IOException: {TOO_LONG}"),
    Reader("java", "`FileInputStream.readAllBytes`", java("all"), 1, SEEK, f"java.io.IOException: {SEEK}", SEEKS),
    Reader("go", "`os.ReadFile`", go("file", VALUE), 1, f"read {VALUE}: {GO_TOO_LONG}"),
    Reader("go", "`bufio.Scanner`", go("scan", VALUE), 1, f"read {VALUE}: {GO_TOO_LONG}"),
    Reader("go", "`tls.LoadX509KeyPair`", go("tls", CERTIFICATE, KEY), 1, f"read {CERTIFICATE}: {GO_TOO_LONG}"),
    Reader("nginx", "`ssl_certificate`, its key", ("sh", f"{TOOLS}/nginx.sh"), 1, "PEM routines::no start line"),
    Reader(
        "openssl", "`x509 -in`", (*PATIENCE, "openssl", "x509", "-in", CERTIFICATE, "-noout", "-subject"), TIMED_OUT
    ),
    Reader("openssl", "`pkey -in`", (*PATIENCE, "sh", f"{TOOLS}/pkey.sh"), TIMED_OUT),
    Reader("openssl", "`-passin file:`", ("sh", f"{TOOLS}/passin.sh"), 1, "Error reading password from BIO"),
    Reader("psql", "`PGPASSFILE`", psql("sslmode=disable"), 2, "fe_sendauth: no password supplied"),
    Reader(
        "psql",
        "`sslcert`, `sslkey`",
        psql("password=x", "sslmode=require", f"sslcert={CERTIFICATE}", f"sslkey={KEY}"),
        2,
        f'could not read certificate file "{CERTIFICATE}": no start line',
    ),
    Reader(
        "psql",
        "`sslrootcert`",
        psql("password=x", "host=localhost", "dbname=authority", "sslmode=verify-full", f"sslrootcert={CERTIFICATE}"),
        2,
        f'could not read root certificate file "{CERTIFICATE}": no certificate or crl found',
    ),
    Reader(
        "curl",
        "`--cacert`",
        curl("--cacert", CERTIFICATE, HTTPS + "authority"),
        77,
        f"error setting certificate file: {CERTIFICATE}",
    ),
    Reader(
        "curl",
        "`--cert`, `--key`",
        curl("-k", "--cert", CERTIFICATE, "--key", KEY, HTTPS),
        58,
        "could not load PEM client certificate",
    ),
    Reader(
        "curl",
        "`--header @file`",
        curl("-k", "--header", f"@{HEADER}", HTTPS),
        26,
        "error encountered when reading a file",
    ),
    Reader("curl", "`--netrc-file`", curl("-k", "--netrc-file", NETRC, HTTPS), 0),
    Reader("curl", "`--data @file`", curl("-k", "--data", f"@{VALUE}", HTTPS), 0),
    Reader("curl", "`file://`", curl(f"file://{VALUE}"), 0),
    Reader("bash", "`$(<file)`", shell("bash", f"v=$(<{VALUE})"), 0),
    Reader("bash", "`mapfile`", shell("bash", f"mapfile v <{VALUE}"), 0),
    Reader("bash", "`read`", shell("bash", f"read -r v <{VALUE}"), 1, f"read: read error: 0: {TOO_LONG}"),
    Reader("bash", "`source`", shell("bash", f". {ASSIGNMENT}"), 1, TOO_LONG),
    Reader("dash", "`$(cat file)`", shell("dash", f"v=$(cat {VALUE})"), 1, TOO_LONG),
    Reader("dash", "`read`", shell("dash", f"read -r v <{VALUE}"), 1),
    Reader("dash", "`.`", shell("dash", f". {ASSIGNMENT}"), 0),
    Reader("busybox", "`cat`", ("busybox", "cat", VALUE), 1, f"read error: {TOO_LONG}"),
    Reader("busybox", "`head -c`", ("busybox", "head", "-c", "100", VALUE), 1, "Input/output error"),
    Reader("busybox", "`sh`: `read`", shell("busybox sh", f"read -r v <{VALUE}"), 1),
    Reader("busybox", "`sh`: `.`", shell("busybox sh", f". {ASSIGNMENT}"), 0),
    Reader("coreutils", "`cat`", ("cat", VALUE), 1, TOO_LONG),
    Reader(
        "coreutils",
        "`cp`",
        ("sh", "-c", f"cp {VALUE} /tmp/copy && cat /tmp/copy"),
        1,
        f"cp: error reading '{VALUE}': {TOO_LONG}",
    ),
    Reader("coreutils", "`tail -n 1`", ("tail", "-n", "1", VALUE), 1, TOO_LONG),
    Reader("coreutils", "`base64`", ("sh", "-c", f'v=$(base64 {VALUE}) && echo "$v" | base64 -d'), 1, TOO_LONG),
    Reader("coreutils", "`dd`", ("dd", f"if={VALUE}", "status=none"), 1, TOO_LONG),
    Reader("grep", "`grep`", ("grep", ".", VALUE), 2, TOO_LONG),
)
