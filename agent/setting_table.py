"""What can be set of the agent: variable, flag, default and meaning of each. The documentation is made from it."""

from __future__ import annotations

from kernelsecret.names import DRIVER_NAME, HOST_WEBHOOK, PORT_AGENT, PORT_NODES
from kernelsecret.validation_limits import MAX_INTERVAL_S, MIN_POLL_S
from telemetry.options import Option
from telemetry.setting_types import (
    absolute_path,
    address,
    audit_destination,
    endpoint,
    interval,
    node_name,
    number,
    one_of,
    optional_path,
    optional_text,
    socket_path,
)

PREFIX = "KERNELSECRET_"

OPTIONS = (
    Option(
        "node",
        node_name,
        "{hostname}",
        "This node's name in the cluster (`spec.nodeName` by the downward API); the host's name otherwise.",
    ),
    Option(
        "run_dir",
        absolute_path,
        "/run/kernelsecret",
        "Sockets, the private bpffs and other things that live as long as the boot; 0700.",
    ),
    Option(
        "state_dir",
        absolute_path,
        "{run_dir}/state",
        "State files of published volumes, without secrets. They describe maps and mounts, which end with the boot, so"
        " they belong on a file system that ends with it too: a state file that outlived them would describe volumes"
        " that are not there.",
    ),
    Option(
        "kubelet_dir",
        absolute_path,
        "/var/lib/kubelet",
        "kubelet's `--root-dir`: target paths must lie in its `pods` folder.",
    ),
    Option(
        "csi_socket",
        socket_path,
        "{kubelet_dir}/plugins/" + DRIVER_NAME + "/csi.sock",
        "Where kubelet calls the CSI driver.",
    ),
    Option(
        "registration_socket",
        socket_path,
        "{kubelet_dir}/plugins_registry/" + DRIVER_NAME + "-reg.sock",
        "Where kubelet discovers the driver.",
    ),
    Option(
        "admin_socket",
        socket_path,
        "{run_dir}/admin.sock",
        "Where `kernelsecret-ctl status` and `trace` ask; root only.",
    ),
    Option(
        "file_source_dir",
        absolute_path,
        "/etc/kernelsecret/secrets",
        "The `file` source: secret `payments/db` is the folder `payments/db` in it.",
    ),
    Option(
        "vault_address",
        optional_text,
        "",
        "The `vault` source: `https://HOST[:PORT]` of the node's Vault (http on this machine only). Nothing: this agent"
        " has no such source.",
    ),
    Option(
        "vault_ca_file",
        optional_path,
        "",
        "The authorities, as PEM, that Vault's certificate must come from: these and no others. Nothing: the system's.",
    ),
    Option(
        "vault_server_name",
        optional_text,
        "",
        "The name that Vault's certificate must have, where it is not the host of the address.",
    ),
    Option("vault_crl_file", optional_path, "", "Certificates that are revoked, as PEM; read again when it changes."),
    Option("vault_client_cert_file", optional_path, "", "The agent's own certificate, where Vault asks for one."),
    Option("vault_client_key_file", optional_path, "", "Its key; root only."),
    Option(
        "vault_approle_dir",
        optional_path,
        "",
        "AppRole credentials: a folder of each, with `role-id` and `secret-id` in it; root only.",
    ),
    Option(
        "poll_floor",
        interval(MIN_POLL_S, MAX_INTERVAL_S),
        "100ms",
        "The least time between two looks of this node at one secret, whatever interceptors ask for.",
    ),
    Option(
        "cluster",
        one_of("auto", "api", "files"),
        "auto",
        "Where the cluster's own view of pods and policy comes from: the API server (`api`) or files; `auto` takes the"
        " API server in a pod that has a service-account token, or where a kubeconfig is named.",
    ),
    Option(
        "cluster_dir",
        absolute_path,
        "/etc/kernelsecret/cluster",
        "Pods, interceptors and registrations as files, where there is no API server.",
    ),
    Option("kubeconfig", optional_path, "", "How to reach the API server from elsewhere than a pod of the cluster."),
    Option(
        "registrations_address",
        address,
        f"0.0.0.0:{PORT_AGENT}",
        "Where the webhook hands registrations over, by mutual TLS (with the API server only).",
    ),
    Option(
        "webhook_address",
        endpoint,
        f"{HOST_WEBHOOK}:{PORT_NODES}",
        "The webhook's door for nodes: this node's certificate comes from there, and registrations that it lacks.",
    ),
    Option(
        "identity_token",
        absolute_path,
        "/var/run/secrets/kernelsecret.io/identity/token",
        "The agent's own service-account token for the audience `kernelsecret.io/identity`, which proves its node.",
    ),
    Option("http_address", address, "127.0.0.1:9473", "Health and metrics; anyone who can reach it can read them."),
    Option(
        "engine",
        one_of("auto", "iter", "tmpfs"),
        "auto",
        "How volumes are served; `auto` takes what the probe shows to work.",
    ),
    Option(
        "audit_log",
        audit_destination,
        "/var/log/kernelsecret/audit.jsonl",
        "The audit log, one JSON line an event; `-` is standard output.",
    ),
    Option("log_level", one_of("debug", "info", "warning", "error"), "info", "What the log says at least."),
    Option("cgroup_root", absolute_path, "/sys/fs/cgroup", "Where the host's cgroup file systems are seen."),
    Option(
        "events_per_second",
        number(1, 100_000),
        "100",
        "Events that the kernel reports a second for one volume; the rest is counted.",
    ),
    Option("events_kept", number(0, 100_000), "256", "Events that a late `trace` can still see."),
)
