"""IndicConformer-600M: front end, vocabulary, two engines for one set of weights, and the model that answers."""
