//! A private PostgreSQL server: found on the machine, started, and gone with its owner.
//!
//! ```text
//! programs   where initdb and postgres are             SearchPaths → Programs
//! account    as whom they run (PostgreSQL refuses root)
//! guard      a process of its own: initdb, postgres, and the folder; ends when its owner does
//! server     the owner's side: PrivateServer           Options → guard, Report ← guard
//! ```
//!
//! The guard reads its standard input, whose other end only the owner holds. When the owner ends,
//! however it ends, the kernel closes the pipe: the guard stops PostgreSQL and removes the folder.

pub mod account;
pub mod guard;
pub mod programs;
pub mod server;

pub use programs::{Programs, SearchPaths};
pub use server::{Options, PrivateServer};
