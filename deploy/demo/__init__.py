"""The demo: a real object store, example documents and small checkpoints, run with `make demo`."""
