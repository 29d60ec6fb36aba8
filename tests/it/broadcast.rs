//! Broadcasts between clients of both versions.

mod socket;
