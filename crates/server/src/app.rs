//! Builds everything from the configuration and runs it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Instant,
};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use walcast_change::Lsn;

use crate::{
    auth::TokenVerifier,
    authz::{Authorizer, rules::RulesKeeper},
    catalogue::keeper::CatalogueKeeper,
    config::Config,
    http::{self, Health, HttpState, admin::AdminParts, broadcast::BroadcastParts},
    messages::{Messages, keeper::MessagesKeeper, recent::RecentTransactions, replay::Replayer},
    outbox::OutboxLimits,
    presence::PresenceTask,
    router::{Router, RouterParts},
    source::Source,
    telemetry::{LogControl, Metrics},
    topics::Topics,
    transport::{TransportParts, control::OpenConnections, longpoll, websocket},
};

/// A running server.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    config: Config,
    health: Arc<Health>,
    connections: TaskTracker,
    tasks: Vec<JoinHandle<()>>,
    shutdown: CancellationToken,
}

impl App {
    /// Starts everything that belongs to one database. The stream may come up later; see
    /// [`Self::ready`].
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub async fn start(
        config: Config,
        log: Option<LogControl>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let health = Arc::new(Health::new());
        let listener = listen(&config).await?;
        let address = listener.local_addr().context("read the address that is listened on")?;

        let catalogue = Arc::new(CatalogueKeeper::new(
            config.database.clone(),
            config.replication.options.publications.clone(),
            config.authorization.catalogue_max_age,
            Arc::clone(&health),
            Arc::clone(&metrics),
        ));
        let authorizer = Authorizer::new(
            config.database.clone(),
            config.authorization.connections,
            config.authorization.statement_timeout,
            Arc::clone(&health),
            Arc::clone(&metrics),
        );
        let rules =
            RulesKeeper::new(config.database.clone(), config.authorization.catalogue_max_age);
        let authorizer = authorizer.looking_into(Arc::clone(&catalogue)).knowing(rules);
        let authorizer = Arc::new(authorizer);
        let topics = Arc::new(Topics::new(Arc::clone(&metrics)));
        let recent = Arc::new(RecentTransactions::default());
        let (router, router_handle) = Router::new(RouterParts {
            catalogue: Arc::clone(&catalogue),
            authorizer: Arc::clone(&authorizer),
            metrics: Arc::clone(&metrics),
            deletes_unverifiable: config.replication.deletes_unverifiable,
            max_record_bytes: config.replication.max_record_bytes,
            messages: Messages::new(
                Arc::clone(&topics),
                Arc::clone(&metrics),
                config.limits.payload_bytes,
                Arc::clone(&recent),
            ),
        });
        let keeper = MessagesKeeper::new(
            config.database.clone(),
            config.replication.migrate,
            config.replication.messages_retention,
        );
        let source = Source {
            messages: Arc::clone(&keeper),
            without_messages_until: None,
            passed: Lsn::ZERO,
            connect: config.database.clone(),
            options: config.replication.options.clone(),
            router: router_handle.clone(),
            catalogue: Arc::clone(&catalogue),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            pending: VecDeque::new(),
        };
        let quotas = Arc::new(config.limits.of_server());
        let verifier = Arc::new(TokenVerifier::new(&config.jwt, &metrics)?);
        let keys = Arc::clone(&verifier);
        let broadcast = Arc::new(BroadcastParts::new(
            Arc::clone(&verifier),
            Arc::clone(&topics),
            Arc::clone(&authorizer),
            Arc::clone(&metrics),
            config.limits.payload_bytes,
            config.limits.http_events_per_second,
            Arc::clone(&quotas),
        ));
        let (presence, presence_handle) = PresenceTask::new(
            node()?,
            config.limits.presence_calls(),
            Arc::clone(&topics),
            Arc::clone(&metrics),
        );
        let connections = TaskTracker::new();
        let open = Arc::new(OpenConnections::default());
        let transport = Arc::new(TransportParts {
            verifier,
            limits: Arc::new(config.limits.of_connection()),
            topics,
            presence: presence_handle,
            router: router_handle,
            catalogue,
            authorizer: Arc::clone(&authorizer),
            replayer: Arc::new(Replayer::new(
                config.database.clone(),
                config.limits.payload_bytes,
                recent,
                Arc::clone(&authorizer),
                Arc::clone(&metrics),
            )),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            outbox_limits: OutboxLimits {
                frames: config.limits.outbound_queue_frames,
                bytes: config.limits.outbound_queue_bytes,
            },
            frame_bytes_max: config.limits.frame_bytes,
            connections_max: config.limits.connections,
            users_max: config.limits.concurrent_users,
            quotas,
            n_users: AtomicUsize::new(0),
            started: Instant::now(),
            shutdown: shutdown.clone(),
            connections: connections.clone(),
            open: Arc::clone(&open),
            last_connection: AtomicU64::new(0),
        });
        let state = Arc::new(HttpState {
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            metrics_secret: config.http.metrics_secret.clone(),
            verifier: Arc::clone(&transport.verifier),
            connections: connections.clone(),
        });
        let admin = config.http.admin_secret.clone().map(|secret| {
            http::admin::routes(Arc::new(AdminParts {
                secret,
                open,
                topics: Arc::clone(&transport.topics),
                router: transport.router.commands.clone(),
                database: config.database.clone(),
                slot: config.replication.options.slot.clone(),
                log,
            }))
        });
        let routes = http::routes(state)
            .merge(admin.unwrap_or_default())
            .merge(http::broadcast::routes(broadcast))
            .merge(longpoll::routes(Arc::clone(&transport)))
            .merge(websocket::routes(transport));

        // The router outlives the source, so that the last rows are delivered and confirmed.
        let router_shutdown = CancellationToken::new();
        let keeping = Arc::clone(&metrics);
        let upkeep_shutdown = shutdown.clone();
        let tasks = vec![
            tokio::spawn(async move {
                tokio::select! {
                    () = keeping.keep() => {}
                    () = upkeep_shutdown.cancelled() => {}
                }
            }),
            tokio::spawn({
                let (verifier, shutdown) = (keys, shutdown.clone());
                async move { verifier.keep(shutdown).await }
            }),
            tokio::spawn(router.run(router_shutdown.clone())),
            tokio::spawn(keeper.run(shutdown.clone())),
            tokio::spawn(presence.run(router_shutdown.clone())),
            tokio::spawn({
                let shutdown = shutdown.clone();
                async move {
                    source.run(shutdown).await;
                    router_shutdown.cancel();
                }
            }),
            tokio::spawn(http::serve(
                listener,
                http::with_request_ids(http::with_short_headers(
                    routes,
                    config.limits.header_bytes,
                )),
                config.limits.silent_sockets,
                shutdown.clone(),
            )),
        ];
        tracing::info!(%address, "listening");
        Ok(Self { address, config, health, connections, tasks, shutdown })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the stream is up.
    pub async fn ready(&self) {
        self.health.ready().await;
    }

    /// Waits until the server was told to stop and has stopped; past the time-out what is left is
    /// dropped.
    ///
    /// # Errors
    /// When a part of the server panicked.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.shutdown.cancelled().await;
        tracing::info!("stopping");
        self.connections.close();
        let stopping = async {
            self.connections.wait().await;
            for task in self.tasks {
                task.await.context("stop in order")?;
            }
            anyhow::Ok(())
        };
        match timeout(self.config.shutdown_timeout, stopping).await {
            Ok(stopped) => stopped,
            Err(_) => {
                tracing::warn!("not everything stopped in time; the rest is dropped");
                Ok(())
            }
        }
    }
}

/// Open files beside those of connections: to PostgreSQL, of requests, of the runtime.
const OTHER_FILES: u64 = 1_200;

/// `walcast serve`: runs until SIGTERM or SIGINT.
///
/// # Errors
/// As [`App::start`] and [`App::finish`].
pub async fn serve(config: Config, log: LogControl) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    raise_file_limit(config.limits.connections);
    App::start(config, Some(log), shutdown).await?.finish().await
}

/// Takes as many open files as the system lets this process have: each connection is one.
fn raise_file_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "failed to raise the limit of open files");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if files < needed {
        tracing::warn!(
            files,
            "the system lets this process open fewer files than max-connections = {connections} \
             needs; raise the hard limit (ulimit -Hn) to {needed} or lower the option"
        );
    }
}

/// Cancels `shutdown` on SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be listened for.
pub fn stop_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = shutdown.cancelled() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}

/// A number that tells this start of the server from others.
fn node() -> anyhow::Result<u32> {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).context("draw a random number")?;
    Ok(u32::from_be_bytes(bytes))
}

async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let (host, port) = (config.http.host.as_str(), config.http.port);
    TcpListener::bind((host, port)).await.with_context(|| {
        format!(
            "listen on {host}:{port}: choose another port with --port, or stop what listens there"
        )
    })
}
