"""What a run survives: processes killed, stores gone, nodes lost; always the same assertion at the end."""
