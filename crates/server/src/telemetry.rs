//! Logs and metrics.

mod metrics;

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

pub use metrics::{MetricKind, MetricSpec, Metrics, milliseconds, reference_page};

/// The logs cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The level is neither a level nor a list of directives.
    #[error("log-level = {filter}: must be error, warn, info, debug, trace, off, or directives")]
    Filter {
        /// What was given.
        filter: String,
    },
    /// Something else in this process opened them already.
    #[error("the logs of this process are open already")]
    Open,
}

/// Opens the log of this process, on standard error.
///
/// # Errors
/// The filter cannot be read, or the log is open already.
pub fn open_log(config: &LogConfig) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|_| LogError::Filter { filter: config.filter.clone() })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match config.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogError::Open)
}
