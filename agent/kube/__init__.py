"""The cluster's own view of pods and policy, behind one small interface. The only room that asks for it."""
