"""What ties a loop to its process: signals, threads, foreign futures, fork, async generators, reports, registries."""
