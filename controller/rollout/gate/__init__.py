"""The gates of a stage: what devices showed, held against a control group and against limits."""
