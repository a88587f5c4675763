"""The life of a chunk, from its claim to its commit, without an orchestrator."""
