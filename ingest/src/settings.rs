//! The function's settings, read from its environment.
