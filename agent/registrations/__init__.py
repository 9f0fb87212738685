"""The door that admission hands registrations over at, and the asking for those that never came."""
