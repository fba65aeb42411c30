"""Benchmarks: the same work done by us and by the bare libraries, in turns. Run by `make bench`."""
