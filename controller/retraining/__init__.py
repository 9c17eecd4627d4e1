"""From drift over a fleet to a run that is proposed, or started."""
