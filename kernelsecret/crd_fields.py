"""What the CRD says of each field beyond its type: a line for `kubectl explain`, bounds, and rules in CEL. No I/O here.

The schema refuses no interceptor that `kernelsecret.validation` accepts. What it cannot say within CEL's budget
(file names that are unique over all secrets, selectors) the webhook says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kernelsecret.crd_secrets import SECRET_FIELDS, SECRET_RULES
from kernelsecret.crd_words import PROGRAM_CEL, Field, Rule, bounds, byte_count, count, interval
from kernelsecret.interceptor import (
    Access,
    Delivery,
    InterceptorSpec,
    Limits,
    NamespaceLimits,
    NotifySpec,
    PodLimits,
    PreloadDelivery,
    Rotation,
)
from kernelsecret.interceptor_status import Condition, InterceptorStatus, SecretStatus
from kernelsecret.plain import MAX_PATH
from kernelsecret.selectors import LabelSelector, Requirement
from kernelsecret.validation import MAX_BINARIES, MAX_CONTAINERS, MAX_FILES, MAX_PREFIXES, TAKEN_NAMES
from kernelsecret.validation_limits import MAX_FILE_BYTES, MAX_OPEN_FILES, SIGNALS

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
    **SECRET_FIELDS,
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
        "preload": Field("What the mode preload does beyond the mount."),
    },
    PreloadDelivery: {
        "prefixes": Field(
            "Absolute folders in which programs under the shim find the files, too.",
            {"maxItems": MAX_PREFIXES, "x-kubernetes-list-type": "set"},
            items={"minLength": 1, "maxLength": MAX_PATH + 1},
            item_rules=(
                Rule(PROGRAM_CEL, "is not the plain absolute path of a folder, such as /etc/payments"),
                Rule("!self.matches('[:=]')", "has a ':' or '=', which part the shim's paths; use another folder"),
                Rule(
                    "!self.matches('^/(proc|sys|dev)(/|$)')",
                    "lies where the kernel shows files; use another folder",
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
            item_rules=(Rule(PROGRAM_CEL, "is not the plain absolute path of a program, such as /usr/bin/psql"),),
        ),
        "action": Field("What a refused reader meets: an error, SIGKILL, or (audit) the value, with a record."),
        "unenforced": Field("Whether an engine that cannot hold the access rule may serve all the same."),
        "ephemeralContainers": Field(
            "Whether an ephemeral container may be added to a pod that holds these files: it reaches them by /proc."
        ),
    },
    Rotation: {
        "pollInterval": Field(
            "How often a source is asked that cannot tell by itself.", {"maxLength": 40}, interval("100ms")
        ),
        "minInterval": Field(
            "The least time between two changes of what is served; the last value wins.",
            {"maxLength": 40},
            interval("0s"),
        ),
        "revokeAfter": Field(
            "When old dynamic credentials are revoked although some reader has not read the new ones yet.",
            {"maxLength": 40},
            interval("5s"),
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
                    f"self == 'main' || ({PROGRAM_CEL})",
                    "is neither 'main' nor the plain absolute path of a program, such as /usr/sbin/nginx",
                ),
            ),
        ),
    },
    Limits: {
        "maxFileBytes": byte_count("The largest value that a new volume may have.", MAX_FILE_BYTES),
        "openFiles": count("Files of one volume that may be open half-read at a time.", MAX_OPEN_FILES),
        "pod": Field("For all volumes of one pod."),
        "namespace": Field("For all volumes of one namespace on one node."),
    },
    PodLimits: bounds("one pod"),
    NamespaceLimits: bounds("one namespace on one node"),
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
    **SECRET_RULES,
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
