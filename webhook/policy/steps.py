"""How a decision is told: each rule that had a say, and the one that refused. Types only, no I/O here."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from kernelsecret.errors import KernelSecretError
from kernelsecret.problems import Problem


class Rule(StrEnum):
    """Every rule of admission, as messages, metrics, audit and `kernelsecret-ctl explain` name it."""

    OPT_IN = "opt-in"
    NAMESPACE = "namespace"
    OS = "os"
    INTERCEPTOR = "interceptor"
    MODE = "mode"
    PLACEMENT = "placement"
    CONTAINERS = "containers"
    VOLUME = "volume"
    MOUNT = "mount"
    ENVIRONMENT = "environment"
    STATUS = "status"
    INJECTED = "injected"
    IMMUTABLE = "immutable"
    DRIVER = "driver"
    HOST_PATH = "host-path"
    EPHEMERAL = "ephemeral"
    SPEC = "spec"
    REVIEW = "review"


class Verdict(StrEnum):
    """What a rule said. `note` is something to know that decides nothing."""

    YES = "yes"
    NO = "no"
    NOTE = "note"


class Step(NamedTuple):
    """One rule's say, in one sentence."""

    rule: Rule
    verdict: Verdict
    text: str


class Doubt(NamedTuple):
    """What to read anew before a refusal is sent: it may be no more than that a watch lags behind.

    Names, empty where there is nothing to read; `ALL` stands for every object of the kind.
    """

    namespace: str = ""
    interceptor: str = ""
    node: str = ""


ALL = "*"
NO_DOUBT = Doubt()


class Refusal(KernelSecretError):
    """The rule that says no, with field, reason and remedy. Raised by rules, kept by decisions."""

    def __init__(self, rule: Rule, field: str, why: str, fix: str = "", *, doubt: Doubt = NO_DOUBT) -> None:
        self.rule = rule
        self.problem = Problem(field, why, fix)
        self.doubt = doubt
        super().__init__(str(self.problem))

    @property
    def message(self) -> str:
        """What whoever created the pod reads."""
        return f"kernelsecret refuses this (rule {self.rule.value}): {self.problem}"

    @property
    def step(self) -> Step:
        """The last step of an explanation."""
        return Step(self.rule, Verdict.NO, str(self.problem))
