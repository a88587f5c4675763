"""Read the corpus: stream the tars of videos from an object store, find their segments and decode the audio."""
