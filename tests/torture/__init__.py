"""What writes to a store disturbed at random moments. ``make torture`` runs all, ``make test`` a sample."""
