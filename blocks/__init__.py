"""With what: typed credentials that build the core's clients."""
