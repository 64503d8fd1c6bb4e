"""What runs the calls of an `Executor`, one file an engine. The contract that they keep is in `spi`."""
