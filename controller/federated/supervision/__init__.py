"""Every run that is at work has a coordinator: a process of its own."""
