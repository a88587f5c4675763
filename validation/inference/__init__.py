"""The inference server: one process per box that owns the GPU and its models, and the client that flow runs use."""
