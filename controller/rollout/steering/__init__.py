"""What people do to a rollout that goes on."""
