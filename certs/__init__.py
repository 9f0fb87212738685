"""Certificates: authority, leaf, rotation and bundle. It imports the contract only."""
