//! Sequences of steps that once failed, each under the name of what was wrong.
