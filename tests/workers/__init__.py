"""What workers do, each against the real thing it works with."""
