"""Who has read what, over all nodes: what the agents say of their secrets, summed up for an interceptor's status. Pure.

An agent speaks for its own node only: it is believed for as many pods as the node has, and its words are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.interceptor_status import SecretStatus
from kernelsecret.node_api import ServedSecret
from kernelsecret.problems import shown

Report = Mapping[tuple[str, str], ServedSecret]
"""What one agent said, by interceptor and secret."""

_MOST_MESSAGE: Final = 300


class Summary(NamedTuple):
    """The secrets of one interceptor in the order of its spec; `silent` are pods on nodes whose agents do not answer,
    `unserved` those that agents know nothing of (yet)."""

    secrets: tuple[SecretStatus, ...] = ()
    silent: int = 0
    unserved: int = 0


def report_of(secrets: Iterable[ServedSecret]) -> Report:
    """An agent's answer, to be looked things up in."""
    return {(one.interceptor, one.secret): one for one in secrets}


def summed(
    interceptor: SecretInterceptor, pods: Mapping[str, int], reports: Mapping[str, Report | None]
) -> Summary | None:
    """`pods` are those that hold the interceptor, by node ("" for none yet); a report is None where the node's agent
    does not answer. None where a node with such pods was not asked yet.
    """
    if any(node and node not in reports for node in pods):
        return None
    answers = {node: report for node, report in sorted(reports.items()) if report is not None and node in pods}
    secrets = tuple(_sum(interceptor.metadata.name, one.name, pods, answers) for one in interceptor.spec.secrets)
    silent = sum(count for node, count in pods.items() if node and node not in answers)
    heard = sum(pods.values()) - silent
    return Summary(secrets, silent, max(0, heard - min((one.pods for one in secrets), default=0)))


def _sum(interceptor: str, name: str, pods: Mapping[str, int], answers: Mapping[str, Report]) -> SecretStatus:
    current = behind = failing = 0
    message = ""
    for node, report in answers.items():
        said = report.get((interceptor, name))
        if said is None:
            continue
        left = pods[node]
        bad, late, good = _within(left, (said.failing, said.behind, said.up_to_date))
        failing, behind, current = failing + bad, behind + late, current + good
        if bad and not message:
            message = f"{shown(said.message, _MOST_MESSAGE) or 'no reason given'} (node {shown(node)})"
    total = failing + behind + current
    return SecretStatus(name=name, pods=total, up_to_date=current, behind=behind, failing=failing, message=message)


def _within(most: int, counts: Sequence[int]) -> list[int]:
    """The counts, cut so that together they are no more than `most`."""
    kept = []
    for count in counts:
        kept.append(min(max(count, 0), most))
        most -= kept[-1]
    return kept
