"""`muster demo`: real processes on this machine, from joining to refused attacks."""
