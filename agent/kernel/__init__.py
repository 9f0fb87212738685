"""The one door to BPF: libbpf by cffi, the maps, the links, the ring buffer and the probe. Nothing else in the agent sees cffi."""
