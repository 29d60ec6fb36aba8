//! Broadcasts: between clients of both versions, and from applications.

mod http;
mod socket;
