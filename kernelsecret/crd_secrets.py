"""What the CRD says of secrets, where they come from, and the files that show them. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kernelsecret.crd_words import NO_CONTROL, PLAIN_NAME, Field, Rule
from kernelsecret.interceptor import (
    FileSource,
    FileSpec,
    KubernetesSource,
    SecretSource,
    SecretSpec,
    VaultAuth,
    VaultSource,
)
from kernelsecret.json_pointer import MAX_POINTER
from kernelsecret.plain import MAX_NAME, MAX_PATH
from kernelsecret.templates import MAX_TEMPLATE
from kernelsecret.validation import MAX_FILES
from kernelsecret.validation_sources import MAX_MOUNT, MAX_PARAMETER, MAX_PARAMETERS, MAX_ROLE, MAX_VERSION

MOUNTED: Final = (
    Rule("self == '' || self.matches('^[^/]+(/[^/]+)*$')", "has a '/' at an end or two in a row; write a/b"),
    Rule("!self.contains('..') && !self.matches('(^|/)[.](/|$)')", "has '..' or a part '.'; leave it out"),
    NO_CONTROL,
)

SECRET_FIELDS: Final[Mapping[type[msgspec.Struct], Mapping[str, Field]]] = {
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
            (
                Rule("!self.startsWith('/') && !self.startsWith('v1/')", "begins with '/' or 'v1/'; leave that out"),
                Rule("self.startsWith('/') || self.matches('^[^/]+(/[^/]+)*$')", "has an empty part; write a/b"),
                Rule("!self.contains('..') && !self.matches('(^|/)[.](/|$)')", "has '..' or a part '.'; leave it out"),
                Rule("!self.matches('[?#]')", "has a query or a fragment; use version or parameters"),
                NO_CONTROL,
            ),
        ),
        "role": Field(
            "The role that is logged in as; needed but for appRole, which has none here.",
            {"maxLength": MAX_ROLE},
            (
                Rule(
                    "self.matches('^[A-Za-z0-9_.-]*$')",
                    "is not the name of a role; use letters, digits, '-', '_' and '.'",
                ),
            ),
        ),
        "auth": Field("How the agent logs in."),
        "namespace": Field("Vault's namespace, where it has them.", {"maxLength": MAX_MOUNT}, MOUNTED),
        "version": Field("One version of a KV v2 secret; 0 is the newest.", {"minimum": 0, "maximum": MAX_VERSION}),
        "parameters": Field(
            "What is written to the path, whose answer then is the secret, as for pki/issue/web.",
            {
                "maxProperties": MAX_PARAMETERS,
                "additionalProperties": {"type": "string", "maxLength": MAX_PARAMETER},
            },
        ),
    },
    VaultAuth: {
        "method": Field("As the pod (kubernetes, jwt), or by an AppRole of the agent's (appRole)."),
        "mount": Field(
            "Where the auth method is mounted, without auth/; empty: kubernetes, jwt or approle.",
            {"maxLength": MAX_MOUNT},
            (Rule("!self.startsWith('auth/')", "begins with 'auth/'; leave that out"), *MOUNTED),
        ),
        "audience": Field(
            "The audience of the pod's token that logs in, as the role expects it.",
            {"maxLength": MAX_ROLE},
            (NO_CONTROL,),
        ),
        "credential": Field(
            "The name of the agent's AppRole credential, for appRole only.", {"maxLength": MAX_NAME}, PLAIN_NAME
        ),
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
            PLAIN_NAME,
        ),
        "key": Field("The key of the secret that the file shows.", {"maxLength": MAX_NAME}, PLAIN_NAME),
        "jsonPointer": Field(
            "The part of the key's JSON that the file shows (RFC 6901), such as /users/0/name.",
            {"maxLength": MAX_POINTER},
            (
                Rule(
                    "self.matches('^(/([^~/]|~[01])*)*$')",
                    "is not a JSON pointer; write /a/b, with ~0 for '~' and ~1 for '/' in a name",
                ),
            ),
        ),
        "decode": Field("How the value is decoded before it is shown."),
        "template": Field(
            "In place of key: a text with keys of the secret in it, such as {{ username }}:{{ password }}.",
            {"maxLength": MAX_TEMPLATE},
            (Rule("self == '' || self.contains('{{')", "shows no key; write {{ username }} for the key username"),),
        ),
        # Bounds and a pattern, not a rule: CEL takes "integer or string" for a text as long as a request may be, which
        # costs too much in a list. The webhook says the same in words.
        "mode": Field(
            'An octal string such as "0400", or a number. Only reading can be allowed.',
            {"minimum": 0o004, "maximum": 0o444, "pattern": "^(0o?)?(0{0,3}4|0{0,2}4[04]|0?4[04][04])$"},
        ),
    },
}

SECRET_RULES: Final[Mapping[type[msgspec.Struct], tuple[Rule, ...]]] = {
    SecretSource: (
        Rule(
            "[has(self.file), has(self.vault), has(self.kubernetes)].exists_one(given, given)",
            "needs exactly one of file, vault and kubernetes; keep one of them",
        ),
    ),
    VaultSource: (
        Rule(
            "(has(self.auth) && has(self.auth.method) && self.auth.method == 'appRole')"
            " != (has(self.role) && self.role != '')",
            "is needed with the methods kubernetes and jwt, and not for appRole; add or remove it",
            ".role",
        ),
        Rule(
            "!has(self.version) || self.version == 0 || !has(self.parameters) || size(self.parameters) == 0",
            "pins a version of a KV v2 secret, but parameters ask for something new; remove one of them",
            ".version",
        ),
    ),
    VaultAuth: (
        Rule(
            "(has(self.method) && self.method == 'appRole') == (has(self.credential) && self.credential != '')",
            "is needed with the method appRole, and not for the others; add or remove it",
            ".credential",
        ),
        Rule(
            "!has(self.audience) || self.audience != '' || (has(self.method) && self.method == 'appRole')",
            "empty; name the audience that the role expects, or leave it out for 'vault'",
            ".audience",
        ),
    ),
    FileSpec: (
        Rule(
            "(has(self.key) && self.key != '') != (has(self.template) && self.template != '')",
            "needs exactly one of key and template; keep one of them",
        ),
        Rule(
            "!has(self.template) || self.template == '' || !has(self.jsonPointer) || self.jsonPointer == ''",
            "goes with key, and this file has a template; remove one of them",
            ".jsonPointer",
        ),
        Rule(
            "!has(self.template) || self.template == '' || !has(self.decode)",
            "goes with key, and this file has a template; write {{ KEY | base64decode }} in the template",
            ".decode",
        ),
    ),
}
"""Rules about several fields of one object."""
