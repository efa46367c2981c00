"""The wheel cache and source builds: a wheel is keyed by all its binary depends on, and enters only when proven."""
