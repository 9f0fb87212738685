"""The webhook's settings as a table, which the command line and the documentation read too. No I/O here."""

from __future__ import annotations

import sys
from functools import partial

from kernelsecret.names import PORT_ADMISSION, PORT_AGENT, PORT_NODES, SYSTEM_NAMESPACE
from telemetry import options
from telemetry.options import Option
from telemetry.setting_types import (
    address,
    audit_destination,
    hosts,
    identity,
    namespace_name,
    number,
    one_of,
    optional_https,
    optional_path,
    optional_text,
    quantity,
)

PREFIX = "KERNELSECRET_WEBHOOK_"
MAX_BODY = 3 << 20

_option = partial(Option, prefix=PREFIX)

OPTIONS = (
    _option(
        "kubeconfig",
        optional_path,
        "",
        "A kubeconfig file, of which the current context is used. Empty: the service account of the pod that it runs"
        " in.",
    ),
    _option(
        "address",
        address,
        f"0.0.0.0:{PORT_ADMISSION}",
        "Where the API server asks (`/mutate`, `/validate`, `/bind`) and senders push (`/v1/push`), with `/healthz`,"
        " `/readyz` and `/metrics`; TLS."
        " `[::]` listens by both IPs.",
    ),
    _option(
        "nodes_address",
        address,
        f"0.0.0.0:{PORT_NODES}",
        "Where agents ask for their certificate and for registrations; TLS with client certificates.",
    ),
    _option(
        "namespace",
        namespace_name,
        SYSTEM_NAMESPACE,
        "Where keys, lease and published trust are kept.",
    ),
    _option(
        "extra_hosts",
        hosts,
        "",
        "Names and IP addresses, with commas, that its certificate is for beside those of its Service.",
    ),
    _option(
        "identity",
        identity,
        "",
        "What this replica calls itself in the lease. Empty: the host's name and a number of its own.",
    ),
    _option("agent_port", number(1, 65535), str(PORT_AGENT), "Where the agent of each node takes registrations in."),
    _option(
        "handover_s",
        number(1, 60),
        "6",
        "How long a hand-over of a bound pod's registration may take; the agent asks for what it did not get.",
    ),
    _option(
        "drain_s",
        number(0, 300),
        "10",
        "After SIGTERM: how long it serves on, not ready any more, so that the Service leaves it out before it stops.",
    ),
    _option("finish_s", number(1, 60), "10", "After that: how long requests under way may take to end."),
    _option(
        "max_body",
        number(1024, 64 << 20),
        str(MAX_BODY),
        "Bytes of the largest review that is read; the API server's own bound is 3 MiB for a request.",
    ),
    _option(
        "audit_log",
        audit_destination,
        "-",
        "The audit log, one JSON line for each injection, refusal and push; `-` is standard output.",
    ),
    _option(
        "vault_address",
        optional_https,
        "",
        "Where pods in mode `vault-agent` find Vault: `https://HOST[:PORT]`. Empty: there is no such mode.",
    ),
    _option(
        "vault_agent_image",
        optional_text,
        "",
        "The image of the Vault Agent that is put into such a pod, best with its digest. Set with `vault_address`.",
    ),
    _option(
        "vault_ca_file",
        optional_path,
        "",
        "Certificates (PEM, at most 32 KiB) that such a pod trusts Vault by; read once at the start. Empty: those of"
        " the image.",
    ),
    _option(
        "vault_server_name",
        optional_text,
        "",
        "The name that Vault's certificate is for. Empty: the host of `vault_address`.",
    ),
    _option("vault_agent_cpu", quantity, "10m", "The CPU that each of both containers in such a pod requests."),
    _option("vault_agent_memory", quantity, "64Mi", "The memory that each of them requests."),
    _option("vault_agent_limit", quantity, "256Mi", "The memory that each of them may have, its files included."),
    _option("log_level", one_of("debug", "info", "warning", "error"), "info", "What the log says at least."),
)


def page() -> str:
    """docs/webhook-settings.md, made from the options: `python -m webhook.options > docs/webhook-settings.md`."""
    return options.page("Settings of the webhook", OPTIONS, command="webhook", module="webhook/options.py")


if __name__ == "__main__":
    sys.stdout.write(page())
