//! Logs and metrics.

mod metrics;

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

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

/// Says what is logged, and changes it.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

impl LogControl {
    /// What is logged.
    #[must_use]
    pub fn filter(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Logs this from here on.
    ///
    /// # Errors
    /// The filter cannot be read.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        self.0.reload(read_filter(filter)?).map_err(|_| LogError::Open)
    }
}

/// Opens the log of this process, on standard error.
///
/// # Errors
/// The filter cannot be read, or the log is open already.
pub fn open_log(config: &LogConfig) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(read_filter(&config.filter)?);
    let lines = fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| LogError::Open)?;
    Ok(LogControl(handle))
}

fn read_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|_| LogError::Filter { filter: filter.to_owned() })
}
