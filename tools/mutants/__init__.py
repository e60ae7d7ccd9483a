"""Mutation testing of attnlib's core: break it one small step at a time, and name what no test notices.

cosmic-ray says what a step is and keeps the session; `trials` runs the tests against each mutant in a fork.
"""
