//! The task that owns the subscriptions: row events in, deliveries out.
