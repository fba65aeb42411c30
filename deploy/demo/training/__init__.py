"""How the demo's two checkpoints are made: `make checkpoints`."""
