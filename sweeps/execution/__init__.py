"""Running trials: on Ray Tune, or one after the other in this process."""
