//! Drives one session over one socket.
