"""The webhook's settings for mode `vault-agent`, as far as `explain` can see them: those of its Deployment."""

from __future__ import annotations

import msgspec

from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import Mode
from kernelsecret.names import ANNOTATION_VAULT_CA
from webhook.options import OPTIONS
from webhook.policy.interceptors import Interceptors
from webhook.policy.pods import Pod
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.settings import Settings
from webhook.vault_agent_settings import vault_agent_settings

FILE = "webhook.yaml"
"""The Deployment, in a folder of objects."""
_CA_FILE = "vault_ca_file"
_OPTIONS = {option.variable: option for option in OPTIONS if option.name.startswith("vault_")}


class _Variable(msgspec.Struct, frozen=True):
    name: str = ""
    value: str = ""
    value_from: msgspec.Raw = msgspec.field(name="valueFrom", default=msgspec.Raw())


class _Container(msgspec.Struct, frozen=True):
    env: tuple[_Variable, ...] | None = None


class _PodSpec(msgspec.Struct, frozen=True):
    containers: tuple[_Container, ...] = ()


class _Template(msgspec.Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


class _Spec(msgspec.Struct, frozen=True):
    template: _Template = _Template()


class _Deployment(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


_DECODER = msgspec.json.Decoder(_Deployment)


def is_needed(interceptors: Interceptors) -> bool:
    """Whether some interceptor has the mode for which the settings count."""
    return any(Mode.VAULT_AGENT in one.spec.delivery.modes for one in interceptors)


def read_settings(deployment: bytes) -> VaultAgentSettings | None:
    """What the webhook's Deployment sets for mode `vault-agent`, None where it sets nothing; without the certificates,
    which are in a file of the webhook's. Raises Refused, and msgspec.DecodeError where it is no Deployment.
    """
    variables = [one for each in _DECODER.decode(deployment).spec.template.spec.containers for one in each.env or ()]
    for one in variables:
        if one.name in _OPTIONS and bytes(one.value_from) not in (b"", b"null"):
            why = "comes from another object (valueFrom), which is not looked into"
            raise Refused(Code.FAILED_PRECONDITION, one.name, why, "write its value into the Deployment")
    given = {_OPTIONS[one.name].name: one.value for one in variables if one.name in _OPTIONS and one.value}
    # All of them, so that the variables of whoever explains count for nothing.
    defaults = {option.name: option.default for option in _OPTIONS.values()}
    return vault_agent_settings(Settings.load(defaults | given | {_CA_FILE: ""}))


def as_this_pod_has_it(settings: VaultAgentSettings | None, pod: Pod) -> VaultAgentSettings | None:
    """With the certificates of a pod that runs: those of the webhook cannot be seen from here."""
    return settings and settings._replace(ca_pem=pod.annotations.get(ANNOTATION_VAULT_CA, ""))


def unknown(refused: Refused | None) -> str:
    """What to tell where the Deployment cannot be read."""
    why = f": {refused}" if refused else ""
    return f"the webhook's settings cannot be read, so mode vault-agent is taken as not set up{why}"
