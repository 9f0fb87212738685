"""The one door to BPF: libbpf by cffi, maps, links, the ring buffer. Nothing else in the agent sees cffi."""
