"""What devices tell: accepted once, merged, kept for a while."""
