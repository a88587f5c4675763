"""Control of the rented boxes: the order, the observed state, and the actions that bring the fleet to the order."""
