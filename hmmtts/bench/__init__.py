"""What the fast parts cost, beside other libraries at the same work."""
