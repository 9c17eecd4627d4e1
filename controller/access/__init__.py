"""Who may do what at the controller: operators, roles, tokens."""
