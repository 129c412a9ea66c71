"""What happens around the training step: one callback per file, chosen in conf/callbacks."""
