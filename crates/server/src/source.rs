//! Keeps the slot streaming: connect, run, back off, resume.
