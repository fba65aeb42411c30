"""Mirrors the tree; plus flow, contract, chaos and benchmark suites."""
