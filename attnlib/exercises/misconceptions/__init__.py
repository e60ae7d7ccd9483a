"""The misconceptions, a module for each family of exercises."""
