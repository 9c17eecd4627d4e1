"""From the first finding to a fleet that has recovered: one story under one name."""
