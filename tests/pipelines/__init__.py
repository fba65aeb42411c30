"""What the driver does."""
