//! The process environment: the one place that reads it.

use std::{collections::BTreeMap, fmt};

use super::{
    error::ConfigError,
    options::{ALL, OptionSpec, Variable},
    value,
};

/// The variables of a process. Empty ones count as not set, as `${NAME:-}` in a compose file means.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variables that set this option, each with the option's value.
    pub(super) fn values_of<'a>(
        &'a self,
        option: &'a OptionSpec,
    ) -> impl Iterator<Item = Result<(String, String), ConfigError>> + 'a {
        let own = Some(option.own_variable())
            .and_then(|name| self.0.get_key_value(&name))
            .map(|(name, text)| Ok((name.clone(), text.clone())));
        let others = option.variables.iter().filter_map(move |Variable { name, convert }| {
            let text = self.variable(name)?;
            Some(match convert(text) {
                Ok(value) => Ok(((*name).to_owned(), value)),
                Err(error) => {
                    let shown = option.is_shown().then_some(text);
                    Err(ConfigError::must_be((*name).to_owned(), shown, &error))
                }
            })
        });
        own.into_iter().chain(others)
    }

    /// Refuses `WALCAST_` variables that are no option.
    pub(super) fn check_names(&self) -> Result<(), ConfigError> {
        let known: Vec<String> = ALL.iter().map(|option| option.own_variable()).collect();
        match self.0.keys().find(|name| name.starts_with("WALCAST_") && !known.contains(name)) {
            None => Ok(()),
            Some(variable) => Err(ConfigError::UnknownVariable {
                variable: variable.clone(),
                hint: value::nearest(variable, known.iter().map(String::as_str)).map(str::to_owned),
            }),
        }
    }

    /// Remarks on variables of the reference that are accepted and have no effect.
    pub(super) fn notices(&self) -> Vec<String> {
        let names: Vec<&str> =
            self.0.keys().map(String::as_str).filter(|name| is_without_effect(name)).collect();
        if names.is_empty() {
            return Vec::new();
        }
        vec![format!("accepted without effect: {}", names.join(", "))]
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let counts =
            |(name, value): &(String, String)| !value.is_empty() && !is_service_link(name, value);
        Self(variables.into_iter().filter(counts).collect())
    }
}

/// Whether Kubernetes made this variable for a service that is called walcast, as it does for every
/// service in the namespace: `WALCAST_PORT=tcp://10.0.0.1:4000` is not about our port.
fn is_service_link(name: &str, value: &str) -> bool {
    name.starts_with("WALCAST_SERVICE_")
        || name.starts_with("WALCAST_PORT_")
        || (name == "WALCAST_PORT" && value.contains("://"))
}

/// Names only: any variable may hold a secret.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// Variables of the reference's container that mean nothing here: its encryption at rest, its
/// cluster, its virtual machine, its tenants and its housekeeping.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "API_JWT_SECRET_NEXT",
    "API_TOKEN_BLOCKLIST",
    "APP_NAME",
    "BROADCAST_POOL_SIZE",
    "CF_TEAM_DOMAIN",
    "CHANNEL_ERROR_BACKOFF_MS",
    "CLUSTER_STRATEGIES",
    "CONNECT_ERROR_BACKOFF_MS",
    "DASHBOARD_AUTH",
    "DASHBOARD_PASSWORD",
    "DASHBOARD_USER",
    "DB_AFTER_CONNECT_QUERY",
    "DB_ENC_KEY",
    "DB_ENC_KEY_GCM",
    "DB_ENC_WRITE_GCM",
    "DB_IP_VERSION",
    "DB_MASTER_REGION",
    "DB_POOL_SIZE",
    "DB_QUEUE_INTERVAL",
    "DB_QUEUE_TARGET",
    "DISABLE_HEALTHCHECK_LOGGING",
    "DNS_NODES",
    "ENABLE_ERL_CRASH_DUMP",
    "ENABLE_TAILSCALE",
    "ERL_AFLAGS",
    "FLY_ALLOC_ID",
    "FLY_APP_NAME",
    "GENERATE_CLUSTER_CERTS",
    "LOGS_ENGINE",
    "MEASURE_TRAFFIC_INTERVAL_IN_MS",
    "METRICS_RPC_TIMEOUT_IN_MS",
    "METRICS_TOKEN_BLOCKLIST",
    "NODE_BALANCE_UPTIME_THRESHOLD_IN_MS",
    "NUM_ACCEPTORS",
    "PRESENCE_BROADCAST_PERIOD_IN_MS",
    "PRESENCE_PERMDOWN_PERIOD_IN_MS",
    "PRESENCE_POOL_SIZE",
    "PROM_POLL_RATE",
    "REALTIME_IP_VERSION",
    "REBALANCE_CHECK_INTERVAL_IN_MS",
    "REGION_MAPPING",
    "REQUEST_ID_BAGGAGE_KEY",
    "RLIMIT_NOFILE",
    "RPC_TIMEOUT",
    "RUN_JANITOR",
    "SECRET_KEY_BASE",
    "SEED_SELF_HOST",
    "SELF_HOST_TENANT_NAME",
    "TENANT_CACHE_EXPIRATION_IN_MS",
    "TENANT_MAX_BYTES_PER_SECOND",
    "WEBSOCKET_MAX_HEAP_SIZE",
];

/// The families among them.
pub(super) const WITHOUT_EFFECT_PREFIXES: &[&str] = &[
    "CLUSTER_SECRET_",
    "DB_HOST_REPLICA_",
    "DB_REPLICA_",
    "ERL_CRASH_DUMP",
    "GEN_RPC_",
    "HTTP_DYNAMIC_BUFFER_",
    "JANITOR_",
    "LOGFLARE_",
    "MAX_GEN_RPC_",
    "METRICS_PUSHER_",
];

fn is_without_effect(name: &str) -> bool {
    WITHOUT_EFFECT.contains(&name)
        || WITHOUT_EFFECT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
