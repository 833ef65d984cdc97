"""What a simulated host can have plugged in."""
