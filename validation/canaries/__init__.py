"""Generate canaries, add them to the queue, and compare the answers of the workers with the known answers."""
