"""Select segments: verdict rules applied to committed shards, without models and without a GPU."""
