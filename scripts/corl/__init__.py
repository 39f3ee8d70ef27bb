"""CORL's own classes, trained on other data than its scripts load."""
