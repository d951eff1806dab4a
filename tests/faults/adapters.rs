//! Which adapter is taken, and what is said of it.
