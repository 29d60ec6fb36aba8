//! Accepts connections and gives their requests a time limit.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::service::{Service as _, service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::silent::SilentSockets;

/// How long a client may take for the head of a request, the time since its last one included. A
/// connection that asks nothing for so long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// After a failed accept, which is for want of file handles: the next one would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then until the requests under way are answered. Connections that became
/// WebSockets are the transport's. Of sockets that say nothing there are at most `silent_sockets_max`.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    silent_sockets_max: usize,
    shutdown: CancellationToken,
) {
    let silent = SilentSockets::new(silent_sockets_max);
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        send_at_once(&socket);
        let place = Arc::new(silent.accept());
        let routes = routes.clone();
        let service = service_fn({
            let place = Arc::clone(&place);
            move |request| {
                let (place, routes) = (Arc::clone(&place), routes.clone());
                async move {
                    place.speaks();
                    let answer = TowerToHyperService::new(routes).call(request).await;
                    place.falls_silent();
                    answer
                }
            }
        });
        let connection = server.serve_connection_with_upgrades(TokioIo::new(socket), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error, "an HTTP connection ended");
                },
                () = place.gives_way() => {
                    tracing::debug!("a socket that said nothing gave way to others");
                }
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Frames are gathered before they are written, so the kernel need not wait for more: with its
/// waiting, half of the changes arrived 12 ms late at 2,000 changes/s.
fn send_at_once(socket: &TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "failed to set TCP_NODELAY");
    }
}
