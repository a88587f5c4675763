"""Export a selection as a training set: audio and text in the format of a toolkit. A later run can resume an export."""
