"""Sample quality, linearity and spectra."""
