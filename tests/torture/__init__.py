"""Pulls that are disturbed at random moments. ``make torture`` runs all, ``make test`` a sample."""
