"""How trials are carried out: on Ray Tune, or one after the other in this process."""
