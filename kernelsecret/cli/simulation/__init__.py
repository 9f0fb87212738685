"""Pods without a cluster: real namespaces, real cgroups, capabilities of a container. Needs root, or a user namespace.

The demonstration, the kernel tests and the benchmarks share it. It takes nothing from the agent but the answer to which
hierarchy pods live in, so that it cannot repeat a mistake of what it exercises.
"""
