//! The stream against a real PostgreSQL.

#[cfg(test)]
mod changes;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod login;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod server;
#[cfg(test)]
mod slots;
