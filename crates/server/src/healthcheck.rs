//! `walcast healthcheck`: asks a server on this machine whether it works. For containers, whose images
//! have nothing else to ask with.

use std::{net::IpAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use reqwest::Client;

use crate::config::HttpConfig;

/// How long the answer may take.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks; prints what the server says.
///
/// The exit code is 0 when changes reach clients, and 1 otherwise.
///
/// # Errors
/// When nobody answers.
pub async fn run(config: &HttpConfig) -> anyhow::Result<(ExitCode, String)> {
    let url = format!("http://{}:{}/healthcheck", reachable(&config.host), config.port);
    let client = Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let asking = async {
        let answer = client.get(&url).send().await?;
        let status = answer.status();
        Ok::<_, reqwest::Error>((status, answer.text().await?))
    };
    let (status, body) = asking.await.with_context(|| format!("ask {url}"))?;
    let code = if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok((code, body))
}

/// The address under which this machine reaches what listens at `host`.
fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        for (host, expected) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "[::1]"),
            ("10.0.0.1", "10.0.0.1"),
            ("fd00::1", "[fd00::1]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(reachable(host), expected);
        }
    }
}
