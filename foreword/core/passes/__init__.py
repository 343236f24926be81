"""Passes of the base: scores, log-likelihoods, states; what is kept between passes; what they cost."""
