"""SecretInterceptor v1alpha1: the types of the wire. What the fields mean to users is in docs/interceptor.md.

Types and defaults only; `kernelsecret.validation` judges what types cannot say. No I/O here.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from kernelsecret.interceptor_status import InterceptorStatus
from kernelsecret.names import AUDIENCE_VAULT
from kernelsecret.selectors import LabelSelector


class Mode(StrEnum):
    """How one pod gets its secrets, chosen at admission."""

    EBPF = "ebpf"
    PRELOAD = "preload"
    VAULT_AGENT = "vault-agent"


class Placement(StrEnum):
    """Whether a pod falls back to a later mode, or waits for a node that has the first."""

    PREFER = "prefer"
    REQUIRE = "require"


class OnUnavailable(StrEnum):
    """What running pods meet when their interceptor or opt-in is taken away: the last value, or refusals."""

    REFUSE = "refuse"
    KEEP = "keep"


class AccessFrom(StrEnum):
    """Which processes of the pod may read."""

    APP = "app"
    MAIN = "main"
    ANY = "any"
    BINARIES = "binaries"


class AccessAction(StrEnum):
    """What a refused reader meets; `audit` serves, and only records."""

    DENY = "deny"
    KILL = "kill"
    AUDIT = "audit"


class Unenforced(StrEnum):
    """Whether an engine that cannot enforce the access rule may serve all the same."""

    REFUSE = "refuse"
    ALLOW = "allow"


class EphemeralContainers(StrEnum):
    """Whether an ephemeral container may be added to a pod that holds our volumes: it reaches them through /proc."""

    REFUSE = "refuse"
    ALLOW = "allow"


class VaultMethod(StrEnum):
    """How the agent logs in to Vault: as the pod (`kubernetes`, `jwt`), or by an AppRole of its own."""

    KUBERNETES = "kubernetes"
    JWT = "jwt"
    APP_ROLE = "appRole"


class ReadAs(StrEnum):
    """Whose account reads a Secret: the pod's, or the agent's where an admin bound it in that namespace."""

    POD = "pod"
    AGENT = "agent"


class Decode(StrEnum):
    """How a value is decoded before it is shown."""

    BASE64 = "base64"


class _Wire(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """camelCase outside; a field that nobody knows is an error, because it is a typing error."""


class FileSource(_Wire, frozen=True, kw_only=True):
    """A directory below the agent's root of secrets: `payments/db`."""

    path: str


class VaultAuth(_Wire, frozen=True, kw_only=True):
    """How the agent logs in. `mount` is the auth method's, empty for Vault's default of it; `audience` that of the
    pod's token; `credential` the name of the agent's AppRole credential, for `appRole` only."""

    method: VaultMethod = VaultMethod.KUBERNETES
    mount: str = ""
    audience: str = AUDIENCE_VAULT
    credential: str = ""


class VaultSource(_Wire, frozen=True, kw_only=True):
    """A path of Vault's API without `/v1/` (`secret/data/payments/db`), read as the role `role`.

    `version` pins one version of a KV v2 secret, 0 is the newest. With `parameters` the path is written to, and the
    answer is the secret (`pki/issue/web`). `namespace` is Vault's, where it has them.
    """

    path: str
    role: str = ""
    auth: VaultAuth = VaultAuth()
    namespace: str = ""
    version: int = 0
    parameters: dict[str, str] = {}


class KubernetesSource(_Wire, frozen=True, kw_only=True):
    """A Secret of the pod's own namespace."""

    name: str
    read_as: ReadAs = ReadAs.POD


class SecretSource(_Wire, frozen=True, kw_only=True):
    """Exactly one of its fields is set."""

    file: FileSource | None = None
    vault: VaultSource | None = None
    kubernetes: KubernetesSource | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the fields that are set."""
        return tuple(name for name in self.__struct_fields__ if getattr(self, name) is not None)


class FileSpec(_Wire, frozen=True, kw_only=True):
    """One file of the volume: its name, what of the secret it shows, and its mode (default 0440).

    Exactly one of `key` and `template` is set; `json_pointer` (RFC 6901) takes a part of the key's JSON, `decode`
    decodes what is left.
    """

    path: str
    key: str = ""
    json_pointer: str = ""
    decode: Decode | None = None
    template: str = ""
    mode: int | str = 0o440


class SecretSpec(_Wire, frozen=True, kw_only=True):
    """One secret and the files that it becomes."""

    name: str
    source: SecretSource
    files: tuple[FileSpec, ...]


class PreloadDelivery(_Wire, frozen=True, kw_only=True):
    """What the mode `preload` does beyond the mount: folders in which programs find the files, too."""

    prefixes: tuple[str, ...] = ()


class Delivery(_Wire, frozen=True, kw_only=True):
    """How values may reach the pod."""

    modes: tuple[Mode, ...] = (Mode.EBPF,)
    placement: Placement = Placement.PREFER
    on_unavailable: OnUnavailable = OnUnavailable.KEEP
    containers: tuple[str, ...] = ()
    """Names of the containers that get the files; empty: all but the proxies that injectors are known to add."""
    preload: PreloadDelivery = PreloadDelivery()


class Access(_Wire, frozen=True, kw_only=True):
    """Who in the pod may read."""

    from_: AccessFrom = msgspec.field(name="from", default=AccessFrom.APP)
    binaries: tuple[str, ...] = ()
    action: AccessAction = AccessAction.DENY
    unenforced: Unenforced = Unenforced.REFUSE
    ephemeral_containers: EphemeralContainers = EphemeralContainers.REFUSE


class NotifySpec(_Wire, frozen=True, kw_only=True):
    """The signal that tells the application of a rotation, and who gets it."""

    signal: str
    process: str = "main"


class Rotation(_Wire, frozen=True, kw_only=True):
    """How soon a change is looked for, and how often it may be passed on."""

    poll_interval: str = "1s"
    min_interval: str = "0s"
    revoke_after: str = "5m"
    """When old dynamic credentials are revoked although some reader has not read the new ones yet."""
    notify: NotifySpec | None = None


class PodLimits(_Wire, frozen=True, kw_only=True):
    """Upper bounds for all volumes of one pod."""

    bytes_: int | str = msgspec.field(name="bytes", default="8Mi")
    files: int = 256
    volumes: int = 16


class NamespaceLimits(_Wire, frozen=True, kw_only=True):
    """Upper bounds for all volumes that pods of one namespace have on one node."""

    bytes_: int | str = msgspec.field(name="bytes", default="64Mi")
    files: int = 16384
    volumes: int = 4096


class Limits(_Wire, frozen=True, kw_only=True):
    """What the volumes of this interceptor may take of a node."""

    max_file_bytes: int | str = "1Mi"
    open_files: int = 256
    pod: PodLimits = PodLimits()
    namespace: NamespaceLimits = NamespaceLimits()


class InterceptorSpec(_Wire, frozen=True, kw_only=True):
    """Who may opt in, what they get, how, and within which bounds."""

    namespace_selector: LabelSelector
    pod_selector: LabelSelector = LabelSelector()
    secrets: tuple[SecretSpec, ...]
    delivery: Delivery = Delivery()
    access: Access = Access()
    rotation: Rotation = Rotation()
    limits: Limits = Limits()


class ObjectMeta(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """The part of an object's metadata that matters here; the API server adds more, which is passed over."""

    name: str
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    resource_version: str = ""
    deletion_timestamp: str | None = None


class SecretInterceptor(_Wire, frozen=True, kw_only=True):
    """Cluster-scoped, written by cluster admins only. Get one from `kernelsecret.validation.read_interceptor`."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: InterceptorSpec
    status: InterceptorStatus | None = None
