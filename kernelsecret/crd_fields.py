"""What the CRD says of each field beyond its type: a line for `kubectl explain`, bounds, and rules in CEL. No I/O here.

The schema refuses no interceptor that `kernelsecret.validation` accepts. What it cannot say within CEL's budget
(file names that are unique over all secrets, selectors) the webhook says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from kernelsecret.interceptor import (
    Access,
    Condition,
    Delivery,
    FileSource,
    FileSpec,
    InterceptorSpec,
    InterceptorStatus,
    KubernetesSource,
    Limits,
    NamespaceLimits,
    NotifySpec,
    PodLimits,
    Rotation,
    SecretSource,
    SecretSpec,
    SecretStatus,
    VaultAuth,
    VaultSource,
)
from kernelsecret.selectors import LabelSelector, Requirement
from kernelsecret.validation import MAX_BINARIES, MAX_CONTAINERS, MAX_FILES, MAX_NAME, MAX_ROLE, TAKEN_NAMES
from kernelsecret.validation_limits import MAX_COUNT, MAX_FILE_BYTES, MAX_OPEN_FILES, MAX_PATH, SIGNALS


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `x-kubernetes-validations`: `cel` must hold, or `message` is shown behind the field's path."""

    cel: str
    message: str
    at: str = ""
    """A field below, such as `.binaries`, that the message is about."""

    def wire(self) -> dict[str, str]:
        """As the CRD writes it."""
        return {"rule": self.cel, "message": self.message} | ({"fieldPath": self.at} if self.at else {})


@dataclass(frozen=True, slots=True)
class Field:
    """`text` for `kubectl explain`, more of the field's schema, and the rules of its value and of its list's items."""

    text: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    items: Mapping[str, Any] = field(default_factory=dict)
    item_rules: tuple[Rule, ...] = ()


def _interval(least: str) -> tuple[Rule, ...]:
    message = f"needs a duration from {least} to 24h, written with ms, s, m or h, such as 500ms, 1s or 1m30s"
    cel = (
        "self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')"
        f" && duration(self) >= duration('{least}') && duration(self) <= duration('24h')"
    )
    return (Rule(cel, message),)


def _bytes(text: str, most: int) -> Field:
    message = f"needs a number of bytes from 1 to {most}, such as 65536, 64Ki or 1Mi"
    cel = (
        f"type(self) == int ? self >= 1 && self <= {most} : self.matches('^[0-9]{{1,15}}(Ki|Mi|Gi|k|M|G)?$')"
        f" && quantity(self).compareTo(quantity('1')) >= 0 && quantity(self).compareTo(quantity('{most}')) <= 0"
    )
    return Field(text, rules=(Rule(cel, message),))


def _count(text: str, most: int = MAX_COUNT) -> Field:
    return Field(text, {"minimum": 1, "maximum": most})


def _bounds(whose: str) -> dict[str, Field]:
    return {
        "bytes": _bytes(f"Bytes of {whose}; a value counts for every volume that shows it.", 1 << 40),
        "files": _count(f"Files of {whose}."),
        "volumes": _count(f"Volumes of {whose}."),
    }


_PLAIN_NAME = (
    Rule("!self.contains('/')", "has a '/'; write one name, not a path"),
    Rule("self != '.' && !self.startsWith('..')", "is '.' or starts with '..'; choose another name"),
    Rule(r"!self.matches('[\x00-\x1f\x7f]')", "has a control character; leave it out"),
)
_PROGRAM_CEL = "self.matches('^(/[^/]+)+$') && !self.matches('/[.][.]?(/|$)')"

FIELDS: Final[Mapping[type[msgspec.Struct], Mapping[str, Field]]] = {
    InterceptorSpec: {
        "namespaceSelector": Field(
            "Labels of the namespaces whose pods may opt in. {} is every namespace that is labelled for injection."
        ),
        "podSelector": Field("Labels of the pods that may opt in; {} is every pod."),
        "secrets": Field(
            f"The secrets and the files that they become, at most {MAX_FILES} files in all.",
            {
                "minItems": 1,
                "maxItems": MAX_FILES,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
            (
                Rule(
                    f"self.map(secret, size(secret.files)).sum() <= {MAX_FILES}",
                    f"has more than {MAX_FILES} files in one volume; use two interceptors",
                ),
            ),
        ),
        "delivery": Field("How values may reach the pod."),
        "access": Field("Who in the pod may read."),
        "rotation": Field("How soon a change is looked for, and how often it may be passed on."),
        "limits": Field("What the volumes of this interceptor may take of a node."),
    },
    LabelSelector: {
        "matchLabels": Field("Labels and the values that they must have."),
        "matchExpressions": Field("Requirements that must all hold.", {"x-kubernetes-list-type": "atomic"}),
    },
    Requirement: {
        "key": Field("A label's name."),
        "operator": Field("How the label is compared; NotIn also holds where it is missing."),
        "values": Field("What In and NotIn compare with.", {"x-kubernetes-list-type": "atomic"}),
    },
    SecretSpec: {
        "name": Field(
            "A name for messages and status, once in the interceptor.",
            {"minLength": 1, "maxLength": 63},
            (
                Rule(
                    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                    "is not a name of lower-case letters, digits and '-'; it begins and ends with a letter or digit",
                ),
            ),
        ),
        "source": Field("Where the value comes from: exactly one of file, vault and kubernetes."),
        "files": Field(
            "The files that show it.",
            {
                "minItems": 1,
                "maxItems": MAX_FILES,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["path"],
            },
        ),
    },
    SecretSource: {
        "file": Field("A folder below the agent's root of secrets."),
        "vault": Field("A path in Vault."),
        "kubernetes": Field("A Secret of the pod's own namespace."),
    },
    FileSource: {
        "path": Field(
            "The folder, such as payments/db; its files are the keys.",
            {"minLength": 1, "maxLength": MAX_PATH},
            (
                Rule("!self.startsWith('/')", "is absolute; it is taken below the agent's root of secrets"),
                Rule("self.startsWith('/') || self.matches('^[^/]+(/[^/]+)*$')", "has an empty part; write a/b"),
                Rule(
                    "!self.matches('(^|/)[.]([.]|/|$)')",
                    "has a part that is '.' or starts with '..'; name the folder itself",
                ),
            ),
        )
    },
    VaultSource: {
        "path": Field(
            "The path of Vault's API, without v1/, such as secret/data/payments/db.",
            {"minLength": 1, "maxLength": MAX_PATH},
        ),
        "role": Field("The role that the pod's account logs in as.", {"maxLength": MAX_ROLE}),
        "auth": Field("How the agent logs in."),
        "namespace": Field("Vault's namespace, where it has them.", {"maxLength": MAX_ROLE}),
        "version": Field("One version of a KV v2 secret; 0 is the newest.", {"minimum": 0, "maximum": MAX_COUNT}),
        "parameters": Field("What is written to the path, whose answer then is the secret, as for pki/issue/web."),
    },
    VaultAuth: {
        "method": Field("As the pod (kubernetes, jwt), or by an AppRole of the agent's (appRole)."),
        "mount": Field("Where the auth method is mounted; empty: Vault's own default.", {"maxLength": MAX_ROLE}),
        "audience": Field("The audience of the pod's token that logs in.", {"maxLength": MAX_ROLE}),
        "credential": Field("The name of the agent's AppRole credential.", {"maxLength": MAX_NAME}),
    },
    KubernetesSource: {
        "name": Field(
            "The Secret's name.",
            {"minLength": 1, "maxLength": 253},
            (
                Rule(
                    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
                    "is not the name of a Secret; use lower-case letters, digits, '-' and '.'",
                ),
            ),
        ),
        "readAs": Field("Whose account reads it: the pod's, or the agent's where an admin bound it in the namespace."),
    },
    FileSpec: {
        "path": Field(
            "The file's name in the volume, once in the interceptor; dots are fine.",
            {"minLength": 1, "maxLength": MAX_NAME},
            _PLAIN_NAME,
        ),
        "key": Field("The key of the secret that the file shows.", {"maxLength": MAX_NAME}, _PLAIN_NAME),
        "jsonPointer": Field("The part of the key's JSON that the file shows, such as /users/0/name."),
        "decode": Field("How the value is decoded before it is shown."),
        "template": Field("In place of key: a text with keys of the secret in it, such as {{ user }}:{{ password }}."),
        # Bounds and a pattern, not a rule: CEL takes "integer or string" for a text as long as a request may be, which
        # costs too much in a list. The webhook says the same in words.
        "mode": Field(
            'An octal string such as "0400", or a number. Only reading can be allowed.',
            {"minimum": 0o004, "maximum": 0o444, "pattern": "^(0o?)?(0{0,3}4|0{0,2}4[04]|0?4[04][04])$"},
        ),
    },
    Delivery: {
        "modes": Field(
            "Modes that may be used, in order.",
            {"minItems": 1, "maxItems": 3, "x-kubernetes-list-type": "atomic"},
            (Rule("self.all(mode, self.exists_one(other, other == mode))", "names a mode twice; name each once"),),
        ),
        "placement": Field(
            "prefer: the first mode that works where the pod can land. require: wait for a node that has the first."
        ),
        "onUnavailable": Field(
            "What running pods meet when their interceptor or opt-in is taken away: keep the last value, or refuse."
        ),
        "containers": Field(
            "Names of the containers that get the files; empty: all but the proxies that injectors are known to add.",
            {"maxItems": MAX_CONTAINERS, "x-kubernetes-list-type": "set"},
            items={"minLength": 1, "maxLength": 63},
            item_rules=(
                Rule(
                    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                    "is not the name of a container; use lower-case letters, digits and '-', as in the pod's spec",
                ),
            ),
        ),
    },
    Access: {
        "from": Field(
            "Which processes may read: app (a container's first task and what descends from it), main (only its first"
            " task), any, or binaries."
        ),
        "binaries": Field(
            "Absolute paths in the container of programs that may read too.",
            {"maxItems": MAX_BINARIES, "x-kubernetes-list-type": "set"},
            items={"minLength": 1, "maxLength": MAX_PATH + 1},
            item_rules=(Rule(_PROGRAM_CEL, "is not the plain absolute path of a program, such as /usr/bin/psql"),),
        ),
        "action": Field("What a refused reader meets: an error, SIGKILL, or (audit) the value, with a record."),
        "unenforced": Field("Whether an engine that cannot hold the access rule may serve all the same."),
        "ephemeralContainers": Field(
            "Whether an ephemeral container may be added to a pod that holds these files: it reaches them by /proc."
        ),
    },
    Rotation: {
        "pollInterval": Field(
            "How often a source is asked that cannot tell by itself.", {"maxLength": 40}, _interval("100ms")
        ),
        "minInterval": Field(
            "The least time between two changes of what is served; the last value wins.",
            {"maxLength": 40},
            _interval("0s"),
        ),
        "revokeAfter": Field(
            "When old dynamic credentials are revoked although some reader has not read the new ones yet.",
            {"maxLength": 40},
            _interval("5s"),
        ),
        "notify": Field("The signal that tells the application of a change."),
    },
    NotifySpec: {
        "signal": Field("The signal.", {"enum": list(SIGNALS)}),
        "process": Field(
            "Who gets it: main, the first task of each container, or the absolute path of a program.",
            {"maxLength": MAX_PATH},
            (
                Rule(
                    f"self == 'main' || ({_PROGRAM_CEL})",
                    "is neither 'main' nor the plain absolute path of a program, such as /usr/sbin/nginx",
                ),
            ),
        ),
    },
    Limits: {
        "maxFileBytes": _bytes("The largest value that a new volume may have.", MAX_FILE_BYTES),
        "openFiles": _count("Files of one volume that may be open half-read at a time.", MAX_OPEN_FILES),
        "pod": Field("For all volumes of one pod."),
        "namespace": Field("For all volumes of one namespace on one node."),
    },
    PodLimits: _bounds("one pod"),
    NamespaceLimits: _bounds("one namespace on one node"),
    InterceptorStatus: {
        "conditions": Field(
            "What is known of it, in the shape that kubectl wait understands.",
            {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
        "volumes": Field("Volumes that are served now.", {"minimum": 0}),
        "pods": Field("Pods that hold these volumes now.", {"minimum": 0}),
        "secrets": Field(
            "How each secret does over all pods that show it.",
            {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    },
    SecretStatus: {
        "name": Field("The name in spec.secrets."),
        "pods": Field("Pods that show it.", {"minimum": 0}),
        "upToDate": Field("Pods whose readers have all read the newest version.", {"minimum": 0}),
        "behind": Field("Pods with a reader that has read an older version last.", {"minimum": 0}),
        "failing": Field("Pods that get the last good version because the source cannot be read.", {"minimum": 0}),
        "message": Field("A sentence for people, never a value."),
    },
    Condition: {
        "type": Field("Such as Accepted, Ready, InUse or PodsUnselected."),
        "status": Field("Whether it holds.", {"enum": ["True", "False", "Unknown"]}),
        "reason": Field("One word for programs."),
        "message": Field("A sentence for people."),
        "lastTransitionTime": Field("When status changed last.", {"format": "date-time"}),
        "observedGeneration": Field("The generation of the spec that it speaks of.", {"minimum": 0}),
    },
}

RULES: Final[Mapping[type[msgspec.Struct], tuple[Rule, ...]]] = {
    SecretSource: (
        Rule(
            "[has(self.file), has(self.vault), has(self.kubernetes)].exists_one(given, given)",
            "needs exactly one of file, vault and kubernetes; keep one of them",
        ),
    ),
    FileSpec: (
        Rule(
            "(has(self.key) && self.key != '') != (has(self.template) && self.template != '')",
            "needs exactly one of key and template; keep one of them",
        ),
    ),
    Access: (
        Rule(
            "!has(self.from) || self.from != 'binaries' || (has(self.binaries) && size(self.binaries) > 0)",
            "empty, but spec.access.from is 'binaries'; name who may read",
            ".binaries",
        ),
    ),
    Requirement: (
        Rule(
            "self.operator in ['In', 'NotIn'] == (has(self.values) && size(self.values) > 0)",
            "needs values with In and NotIn, and none with Exists and DoesNotExist; add or remove them",
            ".values",
        ),
    ),
}
"""Rules about several fields of one object."""

NAME_RULE: Final = Rule(
    f"!(self.metadata.name in {list(TAKEN_NAMES)})",
    "metadata.name has a meaning of its own in annotations or mounts; choose another name",
)
