"""What the registry knows as values and rules: no I/O, no clock, no chance."""
