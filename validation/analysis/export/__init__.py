"""Export a selection as a training set: audio and text in the format of a trainer, in shards that can be resumed."""
