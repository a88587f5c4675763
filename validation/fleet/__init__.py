"""The control of the rented boxes: what the fleet should be, what it is, and the steps between the two."""
