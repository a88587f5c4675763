"""IndicConformer-600M: features, vocabulary, tokenizer, two engines for one set of weights, and the model."""
