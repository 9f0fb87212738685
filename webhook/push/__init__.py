"""Signed pushes: who may say that a secret has changed, and how every agent hears of it."""
