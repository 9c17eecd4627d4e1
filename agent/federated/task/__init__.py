"""The work of one task: looking whether it can be done, doing it, and sending what came of it."""
