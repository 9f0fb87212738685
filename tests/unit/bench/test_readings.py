"""What the C programs and the kernel print, taken apart."""

from __future__ import annotations

from agent.kube.pod_object import live_pod
from agent.model import PodRef
from bench import meminfo
from bench.agent_process import _ns
from bench.cluster import FOLDERS, interceptor, namespace, pod_object, registration
from bench.families import reads, rotation, shim, torn, unmanaged
from kernelsecret.registration import read_registration
from kernelsecret.validation import read_interceptor

MEMINFO = """MemTotal:       1000 kB
MemFree:         300 kB
Cached:          200 kB
Buffers:          10 kB
SwapCached:        0 kB
AnonPages:       150 kB
Shmem:            50 kB
Slab:            120 kB
KernelStack:      20 kB
PageTables:       10 kB
VmallocUsed:      30 kB
Percpu:            5 kB
HugePages_Total:    0
"""
SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> ...
dentry                 2      8    1000    4    1 : tunables    0    0    0 : slabdata      2      2      0
inode_cache            7      8     900    8    2 : tunables    0    0    0 : slabdata      1      1      0
"""
ZONEINFO = """Node 0, zone      DMA
  pagesets
    cpu: 0
              count:    7
              high:     9
    cpu: 1
              count:    3
"""


def test_kernel_memory_is_counted_by_its_parts_and_by_what_is_left() -> None:
    parts = {meminfo.WAITING: meminfo.waiting(ZONEINFO, 4), meminfo.ROOM: meminfo.room(SLABINFO, 4)}
    found = meminfo.parse(MEMINFO) | parts
    assert meminfo.by_part(found) == 120 + 20 + 10 + 30 + 5 + 50 - 7
    assert meminfo.by_rest(found) == 1000 - 300 - 40 - 7 - 200 - 10 - 150 + 50


def test_room_in_slabs_is_the_share_of_pages_that_free_objects_take() -> None:
    assert meminfo.room(SLABINFO, 4) == round(6 * 4 / 4 + 1 * 8 / 8)


def test_rounds_of_each_file_keep_their_order() -> None:
    assert reads.parse("0 10.0\n1 5.0\n1 6.0\n0 12.0\n") == {0: [10.0, 12.0], 1: [5.0, 6.0]}


def test_what_a_file_adds_is_taken_round_by_round() -> None:
    assert reads.Pair([5000.0, 9000.0, 7000.0], [3000.0, 7000.0, 5000.0]).added_us().median == 2.0


def test_the_cost_for_others_is_paired_and_may_be_below_zero() -> None:
    pairs = unmanaged.parse("program - 90.5 0\nfork 0 101.0 100.0\nfork 1 202.0 200.0\nread 0 9.0 10.0\n")
    assert pairs["program"] == [(90.5, 0.0)]
    assert round(unmanaged.added_percent(pairs["fork"]).median, 6) == 1.0
    assert round(unmanaged.added_percent(pairs["read"]).median, 6) == -10.0


def test_the_worst_of_the_shims_other_calls_counts_and_an_open_is_told_in_microseconds() -> None:
    works = {
        "open_live": 900,
        "open_other": 10,
        "stat_other": 40,
        "lseek_other": -3,
        "pread_other": 1,
        "rewind_live": 500,
    }
    text = "".join(
        f"{work} {turn} {1000 + turn + more}.0 {1000 + turn}.0\n" for turn in (0, 1, 2) for work, more in works.items()
    )
    found = {figure.name: figure.value for figure in shim.figures(shim.parse(text))}
    assert found == {"shim_open_us": 0.9, "shim_open_whole_us": 1.901, "shim_other_call_ns": 40, "shim_rewind_us": 0.5}


def test_values_say_their_number_and_change_their_length() -> None:
    assert rotation.value(7).startswith(b"00000000000000000007")
    assert len({len(rotation.value(number)) for number in range(5)}) == 5


def test_a_value_that_proves_itself_is_48_kb_and_all_words_differ() -> None:
    words = memoryview(torn.value(3)).cast("Q")
    assert (len(words) * 8, words[0]) == (48 * 1024, 3 << 32 | len(words))
    assert len(set(words)) == len(words)


def test_readers_together_count_all_reads_and_the_fewest_values() -> None:
    seen = torn.total([torn.Seen(10, 0, 1, 0, 5), torn.Seen(20, 2, 0, 3, 4)])
    assert (seen.reads, seen.bad, seen.values) == (30, 6, 4)


def test_the_log_clock_is_read_to_the_nanosecond() -> None:
    assert _ns("1970-01-01T00:00:01.000000002Z") == 1_000_000_002


def test_the_objects_of_a_scenario_are_valid() -> None:
    pod = PodRef("bench", "pod-0", "0b1f5a52-9d2c-4a53-8f4e-2f1f3c6c7d11", "app")
    made = read_interceptor(interceptor("one", {"a/b": [("f", "k")]}, {"from": "app"}, "0444"))
    assert made.metadata.name == "one"
    assert live_pod(pod_object(pod, "one"), {}, trust_first_pid=True).uid == pod.uid
    assert read_registration(registration(pod, "one")).interceptor == "one"
    assert namespace()["kind"] == "Namespace"
    assert "pods" in FOLDERS
