"""Select segments: apply verdict rules to committed shards. Models and a GPU are not needed."""
