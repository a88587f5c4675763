"""The model host: one process a box that owns the models, and the client by which flow runs ask it."""
