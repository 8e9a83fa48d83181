"""Containers: from an image and what is asked of it to a plan that ``pinnace-exec`` carries out."""
