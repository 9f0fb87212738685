"""`kernelsecret-ctl demo`: the product on this machine in a few seconds, with nothing of it made up."""
