"""Every name that parts of the product or users meet on the wire. A comment each; parsing is elsewhere."""

from __future__ import annotations

from typing import Final

GROUP: Final = "kernelsecret.io"
API_VERSION: Final = f"{GROUP}/v1alpha1"

# The CSI driver: `spec.volumes[].csi.driver` of a pod, and the name that kubelet registers.
DRIVER_NAME: Final = f"csi.{GROUP}"

# CSI volume attribute: the SecretInterceptor that the volume is served by. A volume has this one, or that of the shim.
ATTRIBUTE_INTERCEPTOR: Final = f"{GROUP}/interceptor"

# Namespace label: pods of this namespace may opt in.
LABEL_INJECT: Final = f"{GROUP}/inject"
# Its only value that counts.
LABEL_INJECT_ENABLED: Final = "enabled"

# Pod annotation: "true" (the one interceptor that selects the pod) or the name of an interceptor.
ANNOTATION_INJECT: Final = f"{GROUP}/inject"
# Its value that names no interceptor.
ANNOTATION_INJECT_ANY: Final = "true"
# Its value that opts out, as if the annotation were missing.
ANNOTATION_INJECT_OFF: Final = "false"

# Pod annotation: the mode that the pod asks for; "auto" lets admission choose.
ANNOTATION_MODE: Final = f"{GROUP}/mode"
ANNOTATION_MODE_AUTO: Final = "auto"

# Pod annotation: names of containers, with commas, that get the files; never more than the interceptor allows.
ANNOTATION_CONTAINERS: Final = f"{GROUP}/containers"

# Pod annotations and label, written by admission alone: what was chosen for the pod.
ANNOTATION_INTERCEPTOR: Final = f"{GROUP}/interceptor"
ANNOTATION_CHOSEN_MODE: Final = f"{GROUP}/chosen-mode"
ANNOTATION_INJECTED_CONTAINERS: Final = f"{GROUP}/injected-containers"
ANNOTATION_DECISION: Final = f"{GROUP}/decision"
LABEL_INJECTED: Final = f"{GROUP}/injected"
LABEL_INJECTED_YES: Final = "true"

# What admission puts into a pod's spec: the volume's name, and the folder that its mount is named in.
VOLUME_NAME: Final = "kernelsecret"
MOUNT_ROOT: Final = "/var/run/secrets"

# Mode `preload`: the volume that holds the shim and nothing else, the attribute that asks the driver for it (its only
# value is "true"), and where it is mounted.
VOLUME_SHIM: Final = "kernelsecret-shim"
ATTRIBUTE_SHIM: Final = f"{GROUP}/shim"
ATTRIBUTE_SHIM_YES: Final = "true"
SHIM_ROOT: Final = f"{MOUNT_ROOT}/{GROUP}/shim"
SHIM_FILE: Final = "libkernelsecret.so"
# Variables of a container in mode `preload`: ld.so's own, the shim's, and the one that keeps what the pod's author
# wanted to be preloaded from elsewhere (`valueFrom`).
ENV_PRELOAD: Final = "LD_PRELOAD"
ENV_SHIM_PATHS: Final = "KERNELSECRET_SHIM_PATHS"
ENV_OWN_PRELOAD: Final = "KERNELSECRET_OWN_LD_PRELOAD"
# Pod annotation, written by the agent alone: programs of a pod in mode `preload` that the shim does not reach, and why.
ANNOTATION_UNAFFECTED: Final = f"{GROUP}/unaffected-programs"

# Mode `vault-agent`: the containers and the volume that admission adds, and the pod annotations that carry the
# configuration of each to its file.
CONTAINER_VAULT_AGENT: Final = "kernelsecret-vault-agent"
CONTAINER_VAULT_AGENT_INIT: Final = "kernelsecret-vault-agent-init"
VOLUME_VAULT_AGENT: Final = "kernelsecret-vault-agent"
ANNOTATION_VAULT_AGENT: Final = f"{GROUP}/vault-agent-config"
ANNOTATION_VAULT_AGENT_INIT: Final = f"{GROUP}/vault-agent-init-config"
ANNOTATION_VAULT_CA: Final = f"{GROUP}/vault-ca"

# Pod annotation, honoured only where pods are read from files that root owns: the host's pid of the pod's first task.
ANNOTATION_FIRST_PID: Final = f"{GROUP}/first-pid"

# Node label: how this node serves volumes (`iter`, `rewrite`, `tmpfs`).
LABEL_ENGINE: Final = f"{GROUP}/engine"
# Node label: the engine that was seen to serve a pod with a user namespace of its own (`tmpfs`), or `none`.
LABEL_IDMAPPED: Final = f"{GROUP}/idmapped"

# Namespace annotation: the least time between two looks at a source for pods of this namespace; it can only lengthen
# what an interceptor says.
ANNOTATION_POLL_INTERVAL: Final = f"{GROUP}/poll-interval"

# Finalizer of a SecretInterceptor: pods still show what it gave them.
FINALIZER_IN_USE: Final = f"{GROUP}/in-use"

# Where the product itself lives, and the objects that it keeps there.
SYSTEM_NAMESPACE: Final = "kernelsecret-system"
ACCOUNT_WEBHOOK: Final = "kernelsecret-webhook"
ACCOUNT_AGENT: Final = "kernelsecret-agent"
SERVICE_WEBHOOK: Final = "kernelsecret-webhook"
LEASE_WEBHOOK: Final = "kernelsecret-webhook"
KEYS_OBJECT: Final = "kernelsecret-webhook-keys"
TRUST_OBJECT: Final = "kernelsecret-trust"
# The ConfigMap by which accepted notices of a change reach every agent, and the Secret of the senders' keys.
NOTICES_OBJECT: Final = "kernelsecret-notices"
PUSH_KEYS_OBJECT: Final = "kernelsecret-push-keys"
# The MutatingWebhookConfiguration and the ValidatingWebhookConfiguration, both of this name.
WEBHOOK_CONFIGURATION: Final = "kernelsecret"

# Namespaces whose pods are never touched and never asked about.
EXCLUDED_NAMESPACES: Final = ("kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE)

# Names in certificates: the webhook's is that of its Service, a node's agent is `<node>.nodes.kernelsecret.io`.
HOST_WEBHOOK: Final = f"{SERVICE_WEBHOOK}.{SYSTEM_NAMESPACE}.svc"
NODE_DOMAIN: Final = f"nodes.{GROUP}"

# `reportingController` of the Events that an agent writes about pods, and of those that the webhook writes.
REPORTER: Final = f"{GROUP}/agent"
REPORTER_WEBHOOK: Final = f"{GROUP}/webhook"

# Audience of the service-account token with which an agent proves itself when it asks for its certificate.
AUDIENCE_IDENTITY: Final = f"{GROUP}/identity"

# Audience of the pods' tokens that log in to Vault, unless the interceptor names another.
AUDIENCE_VAULT: Final = "vault"

PORT_ADMISSION: Final = 8443
PORT_NODES: Final = 8444
PORT_AGENT: Final = 9474

KIND_INTERCEPTOR: Final = "SecretInterceptor"
RESOURCE_INTERCEPTORS: Final = "secretinterceptors"
